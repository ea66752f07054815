"""Redis or Valkey: one connection that never reconnects by itself, so that its owner learns of every break.

A server that was away may come back empty, older, or as another one: whoever keeps counters there has to look before it
goes on (`museway_platform.limits.shared`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

ANSWER_S = 1.0
"""A server that does not answer within this is away."""


class RedisUnavailable(Exception):
    """The server can't be reached, does not answer, or refuses to work. What was asked may have been done."""


class RedisServer:
    """One connection, open until an error: then it is of no more use and every call raises RedisUnavailable.

    The driver's connection itself, not its client: that one takes 2.4 times the CPU for a round trip.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # a driver's type that leaves half of itself open
        self._turn = asyncio.Lock()
        self.is_broken = False
        """It is of no more use: connect again."""
        self.id = ""
        """Another one after every restart, so that a server that came back is not taken for the one before."""
        self.evicts = False
        """It may throw away what it was given when memory is short."""

    @classmethod
    async def connect(cls, url: str) -> Self:
        """Raises RedisUnavailable."""
        pool = cast("Any", ConnectionPool).from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
        server = cls(pool.make_connection())
        try:
            information = _fields(await server._one("INFO"))
        except RedisUnavailable:
            await server.close()
            raise
        server.id = f"{information['run_id']}:{information.get('master_replid', '')}"
        server.evicts = information.get("maxmemory") != "0" and information.get("maxmemory_policy") != "noeviction"
        return server

    async def load(self, script: str) -> str:
        """Keep a script in the server; its name for `run`. Raises RedisUnavailable."""
        return str((await self._one("SCRIPT", "LOAD", script)).decode())

    async def run(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]]) -> list[bytes | str]:
        """Run a script once for each (keys, arguments), all in one round trip; text instead of bytes is the error that the
        script itself ran into. Raises RedisUnavailable."""
        answers = await self._ask([("EVALSHA", script, len(keys), *keys, *arguments) for keys, arguments in calls])
        return [self._fault(answer) if isinstance(answer, ResponseError) else answer for answer in answers]

    async def get(self, key: str) -> str | None:
        value = await self._one("GET", key)
        return None if value is None else value.decode()

    async def set(self, key: str, value: str) -> None:
        await self._one("SET", key, value)

    async def close(self) -> None:
        """Idempotent."""
        self.is_broken = True
        await self._connection.disconnect(nowait=True)

    def _fault(self, error: ResponseError) -> str:
        """What a script ran into. Raises RedisUnavailable where the server did not run it: loading, read-only, full, …"""
        if type(error) is ResponseError and "script" in str(error):
            return str(error)
        self.is_broken = True
        raise RedisUnavailable(str(error)) from error

    async def _one(self, *command: str) -> Any:
        (answer,) = await self._ask([command])
        if isinstance(answer, ResponseError):
            self.is_broken = True
            raise RedisUnavailable(str(answer)) from answer
        return answer

    async def _ask(self, commands: Sequence[Sequence[str | int | bytes]]) -> list[Any]:
        """The answers, of which some may be ResponseErrors. Raises RedisUnavailable."""
        connection = self._connection
        async with self._turn:
            if self.is_broken:
                raise RedisUnavailable("the connection is closed")
            try:
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                return [await _answer(connection) for _ in commands]
            except (RedisError, OSError) as error:
                self.is_broken = True
                raise RedisUnavailable(type(error).__name__) from error
            except BaseException:
                self.is_broken = True  # an answer may be under way that nobody will read
                raise


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _fields(said: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in said.decode().splitlines() if ":" in line)


@asynccontextmanager
async def open_redis(url: str) -> AsyncGenerator[RedisServer]:
    """A connection that is open inside the context. Raises RedisUnavailable."""
    server = await RedisServer.connect(url)
    try:
        yield server
    finally:
        await server.close()
