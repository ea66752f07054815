"""How a change in the database reaches this process: one connection that listens, and a poll for what it missed.

A NOTIFY only wakes the poll, and the poll reads tables: so a notification that is lost, doubled or early can do no harm,
and there is one path to test. Every subscriber's poll runs at least once per `interval_s`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from museway_platform.database.pool import UNAVAILABLE, Connection, open_connection

log = logging.getLogger("museway.database")

Poll = Callable[[Connection], Awaitable[None]]

INTERVAL_S = 0.5
"""Half of the second within which a revoked key is refused: the other half is for the query and a lost NOTIFY."""
_QUERY_S = 2.0
_BACKOFF_S = (0.05, 2.0)


class Watch:
    """Runs polls on one connection of its own, in the order in which they were given, never two at a time.

    `run` goes on for ever: while PostgreSQL is away it reconnects with a growing, jittered pause, and its subscribers
    decide what their staleness means. An error that is not about the connection ends it, and so its owner's task group.
    """

    def __init__(
        self, dsn: str, channels: tuple[str, ...], polls: tuple[Poll, ...], interval_s: float = INTERVAL_S
    ) -> None:
        self._dsn = dsn
        self._channels = channels
        self._polls = polls
        self._interval_s = interval_s
        self._wake = asyncio.Event()
        self._round = asyncio.Condition()
        self._rounds = 0

    async def run(self) -> None:
        """Belongs into a task group of the process. Ends only by cancellation or by a fault of ours."""
        pause_s = 0.0
        while True:
            began = time.monotonic()
            try:
                async with open_connection(self._dsn, statement_timeout_s=_QUERY_S) as connection:
                    await self._serve(connection)
            except UNAVAILABLE as error:
                if isinstance(error, ValueError):  # a value that asyncpg cannot encode: never will
                    raise
                log.warning("PostgreSQL is away", extra={"error": type(error).__name__})
            lived = time.monotonic() - began > _BACKOFF_S[1]
            pause_s = _BACKOFF_S[0] if lived else min(_BACKOFF_S[1], max(_BACKOFF_S[0], pause_s * 2))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))

    async def caught_up(self) -> None:
        """Wait until a round of polls that begins after this call is over: what was committed before is seen then."""
        async with self._round:
            # A round under way may have read before the caller's commit, so two ends must pass, unless none is under way.
            wanted = self._rounds + 2
            while self._rounds < wanted:
                self._wake.set()
                await self._round.wait()

    async def _serve(self, connection: Connection) -> None:
        for channel in self._channels:
            await connection.add_listener(channel, self._notified)
        while True:
            self._wake.clear()
            for poll in self._polls:
                await poll(connection)
            async with self._round:
                self._rounds += 1
                self._round.notify_all()
            try:
                await asyncio.wait_for(self._wake.wait(), self._interval_s)
            except TimeoutError:
                continue

    def _notified(self, _connection: object, _pid: int, _channel: str, _payload: object) -> None:
        self._wake.set()
