"""Redis or Valkey: one connection that never reconnects by itself, so that its owner learns of every break.

A server that was away may come back empty, older, or as another one: whoever keeps counters there has to look before it
goes on (`museway_platform.limits.shared`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

ANSWER_S = 1.0
"""A server that does not answer within this is away."""


class RedisUnavailable(Exception):
    """The server can't be reached, does not answer, or refuses to work. What was asked may have been done."""


class RedisServer:
    """One connection, open until an error: then it is of no more use and every call raises RedisUnavailable."""

    def __init__(self, client: Any) -> None:
        self._client = client  # a Redis, whose own types leave half of it open
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
        client = cast("Any", Redis).from_url(
            url,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
        )
        server = cls(client)
        try:
            information = cast("dict[str, Any]", await server._do(client.info()))
        except RedisUnavailable:
            await server.close()
            raise
        server.id = f"{information['run_id']}:{information.get('master_replid', '')}"
        server.evicts = bool(information.get("maxmemory")) and information.get("maxmemory_policy") != "noeviction"
        return server

    async def load(self, script: str) -> str:
        """Keep a script in the server; its name for `run`. Raises RedisUnavailable."""
        return str(await self._do(self._client.script_load(script)))

    async def run(self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[bytes]]]) -> list[bytes | str]:
        """Run a script once for each (keys, arguments), all in one round trip; text instead of bytes is the error that the
        script itself ran into. Raises RedisUnavailable."""
        pipeline = self._client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.execute_command("EVALSHA", script, len(keys), *keys, *arguments)
        answers = cast("list[bytes | Exception]", await self._do(pipeline.execute(raise_on_error=False)))
        return [answer if isinstance(answer, bytes) else self._fault(answer) for answer in answers]

    async def get(self, key: str) -> str | None:
        value = cast("bytes | None", await self._do(self._client.get(key)))
        return None if value is None else value.decode()

    async def set(self, key: str, value: str) -> None:
        await self._do(self._client.set(key, value))

    async def close(self) -> None:
        """Idempotent."""
        self.is_broken = True
        await self._client.aclose()

    def _fault(self, error: Exception) -> str:
        """What a script ran into. Raises RedisUnavailable where the server did not run it: loading, read-only, full, …"""
        if type(error) is ResponseError and "script" in str(error):
            return str(error)
        self.is_broken = True
        raise RedisUnavailable(str(error)) from error

    async def _do(self, work: Any) -> Any:
        async with self._turn:
            if self.is_broken:
                work.close()
                raise RedisUnavailable("the connection is closed")
            try:
                return await work
            except ResponseError as error:
                self.is_broken = True
                raise RedisUnavailable(str(error)) from error
            except (RedisError, OSError) as error:
                self.is_broken = True
                raise RedisUnavailable(type(error).__name__) from error
            except BaseException:
                self.is_broken = True  # an answer may be under way that nobody will read
                raise


@asynccontextmanager
async def open_redis(url: str) -> AsyncGenerator[RedisServer]:
    """A connection that is open inside the context. Raises RedisUnavailable."""
    server = await RedisServer.connect(url)
    try:
        yield server
    finally:
        await server.close()
