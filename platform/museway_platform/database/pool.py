"""The pool of connections, the types that stores take, and which errors mean "PostgreSQL is away"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Record = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""What a function of a `store.py` takes: it runs SQL and never commits, its caller owns the transaction."""
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
LinkError = asyncpg.InterfaceError
"""asyncpg's complaint about a connection that is closed or in another's use."""

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,  # refused, reset, no such socket; asyncio's TimeoutError is one too
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # we were stopped in the middle of a transaction
    asyncpg.InternalClientError,  # of a connection whose server died between two messages: it knows no state for that
)
"""Errors after which the same work may succeed later, unchanged. Any other error is a fault of the statement."""

_SERVER_SETTINGS = {
    "application_name": "museway",
    "timezone": "UTC",
    # A process that is stopped in the middle of a transaction holds locks that its successor waits for.
    "idle_in_transaction_session_timeout": "5s",
}


@asynccontextmanager
async def open_pool(
    dsn: str, *, connections_min: int = 1, connections_max: int = 10, statement_timeout_s: float = 30.0
) -> AsyncGenerator[Pool]:
    """A pool that is open inside the context. Leaving it waits for borrowed connections, at most 10 s.

    Raises one of UNAVAILABLE where PostgreSQL does not answer, unless `connections_min` is 0.
    """
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=connections_min,
        max_size=connections_max,
        command_timeout=statement_timeout_s,
        timeout=10.0,
        server_settings=_SERVER_SETTINGS,
    )
    try:
        yield pool
    finally:
        await _close(pool)


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(10.0):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def open_connection(dsn: str, *, statement_timeout_s: float | None = 30.0) -> AsyncGenerator[Connection]:
    """One connection of its own, for LISTEN, for migrations and for commands."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        dsn, command_timeout=statement_timeout_s, timeout=10.0, server_settings=_SERVER_SETTINGS
    )
    try:
        yield connection
    finally:
        if not connection.is_closed():
            await connection.close(timeout=5.0)
