"""A process that meters calls and is killed: python victim.py DSN DIRECTORY POINT.

Eight calls at once produce tokens. Of each token, the slot is updated first and a line `call tokens` written after, as the
bytes to a client would be. At POINT, in the third round of calls, the process kills itself with SIGKILL; without a point
it goes on until somebody else does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import uvloop

from calls import WORKER, finished, identity
from museway_billing.journal import Batch, Journal
from museway_billing.journal.drain import Drain, Source
from museway_billing.money import NanoUsd
from museway_platform.database.pool import open_pool

TOKENS = 20
PROMPT, CACHED = 120, 20
ROUND = 8


class KilledAt:
    """Named points that the process passes; it dies at one of them when it is armed."""

    def __init__(self, point: str) -> None:
        self._point = point
        self.armed = False

    def passes(self, point: str) -> None:
        if self.armed and point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class DrainKilledAt(Drain):
    """Passes a point on both sides of the commit."""

    points: KilledAt

    async def _write(self, source: Source, batch: Batch) -> None:
        self.points.passes("before commit")
        await super()._write(source, batch)
        self.points.passes("after commit")


async def call(journal: Journal, number: int, points: KilledAt) -> None:
    slot = journal.open_slot(identity(number))
    points.passes("slot opened")
    slot.dispatched(WORKER)
    points.passes("dispatched")
    for token in range(1, TOKENS + 1):
        await asyncio.sleep(0)
        slot.update(PROMPT, CACHED, 0, token)
        points.passes("slot updated")
        os.write(1, f"{number} {token}\n".encode())
        points.passes("token left")
    appending = asyncio.ensure_future(journal.append(finished(slot.identity, (PROMPT, CACHED, 0, TOKENS))))
    await asyncio.sleep(0)
    points.passes("append begun")
    await appending
    points.passes("appended")
    slot.free()
    points.passes("slot freed")


async def main(dsn: str, directory: Path, points: KilledAt) -> None:
    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    async with open_pool(dsn) as pool, asyncio.TaskGroup() as group:
        journal = await Journal.open(directory, process="victim", slots=64, segment_bytes=1 << 15)
        drain = DrainKilledAt(pool, journal, host="h", on_drained=told)
        drain.points = points
        group.create_task(drain.run())
        number = 0
        while True:
            points.armed = number == 2 * ROUND
            async with asyncio.TaskGroup() as calls:
                for _ in range(ROUND):
                    number += 1
                    calls.create_task(call(journal, number, points))
            if points.armed:
                await drain.flush()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), KilledAt(sys.argv[3] if len(sys.argv) > 3 else "")))
