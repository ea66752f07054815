"""How far PostgreSQL's clock is from this process's. Nothing is decided by the difference; an operator wants to know it."""

from __future__ import annotations

import time
from collections.abc import Callable

from museway_platform.database.pool import Connection

_ASK = "select extract(epoch from clock_timestamp())::double precision"
_EVERY_S = 10.0


class ClockSkew:
    """Of one process. `poll` belongs on its `Watch`. `seconds`: positive where PostgreSQL is ahead, None until it was asked;
    off by half of a round trip at most."""

    def __init__(self, wall: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._clock = clock
        self._again_at = clock()
        self.seconds: float | None = None

    async def poll(self, connection: Connection) -> None:
        if self._clock() < self._again_at:
            return
        before = self._wall()
        there: float = await connection.fetchval(_ASK)
        self.seconds = there - (before + self._wall()) / 2
        self._again_at = self._clock() + _EVERY_S
