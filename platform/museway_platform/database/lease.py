"""One gateway process per database where limits and holds live in its memory; any number where Redis shares them.

Two processes that each believe to have the whole balance would spend it twice (I3). The lease is an advisory lock of a
connection that stays open: PostgreSQL gives it up the moment the process is gone, however it went. Processes that share
limits share the lock, so that none beside them counts for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from museway_platform.database.pool import open_connection

_TRY = "select pg_try_advisory_lock(hashtextextended('museway.gateway', 0))"
_TRY_SHARED = "select pg_try_advisory_lock_shared(hashtextextended('museway.gateway', 0))"
_POLL_S = 0.2


class AnotherProcess(Exception):
    """Another gateway process holds the lease of this database, and one of the two counts for itself."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__(
            "a gateway process without MUSEWAY_REDIS_URL serves this database; stop it, or wait until it has drained"
            if shared
            else "another gateway process serves this database; limits and holds live in one process: stop the other one, "
            "wait until it has drained, or set MUSEWAY_REDIS_URL for both"
        )


@asynccontextmanager
async def only_process(dsn: str, *, wait_s: float, shared: bool = False) -> AsyncGenerator[None]:
    """Hold the lease inside the context, alone or with others that share limits; a process that still drains is waited for.
    Raises AnotherProcess.

    Does not notice when PostgreSQL restarts and the lock is gone: fencing by epochs is the journal's.
    """
    async with open_connection(dsn, statement_timeout_s=None) as connection:
        deadline = asyncio.get_running_loop().time() + wait_s
        while not await connection.fetchval(_TRY_SHARED if shared else _TRY):
            if asyncio.get_running_loop().time() >= deadline:
                raise AnotherProcess(shared=shared)
            await asyncio.sleep(_POLL_S)
        yield
