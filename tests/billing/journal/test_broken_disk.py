"""The disk fails under the log: who waits is told, the process ends, the next one recovers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from calls import WORKER, finished, identity
from museway_billing.journal import Journal, JournalBroken
from museway_billing.journal.drain import Drain
from museway_billing.journal.recovery import claim_dead
from museway_billing.money import NanoUsd
from museway_billing.usage import State
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio


def break_disk(directory: Path) -> None:
    """Every further write to the log's segments fails, as on a disk that has gone bad: their descriptors become a full
    device."""
    full = os.open("/dev/full", os.O_WRONLY)
    names = ("spare-", "log-")
    for entry in list(Path("/proc/self/fd").iterdir()):
        target = Path(os.readlink(entry)) if entry.is_symlink() else Path()
        if target.is_relative_to(directory) and target.name.startswith(names):
            os.dup2(full, int(entry.name))
    os.close(full)


async def test_a_failed_write_is_told_and_recovered(pool: Pool, tmp_path: Path) -> None:
    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(tmp_path, process="gateway", slots=8)
    drain = Drain(pool, journal, host="h", on_drained=told)
    running = asyncio.ensure_future(drain.run())
    first = journal.open_slot(identity(1))
    first.dispatched(WORKER)
    await journal.append(finished(first.identity))
    break_disk(tmp_path)
    slots = [journal.open_slot(identity(number)) for number in (2, 3)]
    for slot in slots:
        slot.dispatched(WORKER)
        slot.update(120, 20, 7, 3)
    waiting = [asyncio.ensure_future(journal.append(finished(slot.identity))) for slot in slots]
    async with asyncio.timeout(10):
        failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(failure) for failure in failures] == [JournalBroken, JournalBroken]
    with pytest.raises(JournalBroken):
        await journal.append(finished(slots[0].identity))  # asked again: the same answer, no second record
    with pytest.raises(JournalBroken):
        journal.open_slot(identity(4))
    async with asyncio.timeout(5):
        with pytest.raises(JournalBroken):
            await running  # a background task that the process can't live without
    await journal.close()  # what the end of the process does to its lock

    (claimed,) = claim_dead(tmp_path, ended=0)
    whole, *cut = claimed.tail.read(10).records
    assert whole == finished(identity(1))
    assert [(one.id, one.state, one.output) for one in cut] == [
        (identity(number).record_id, State.INTERRUPTED, 3) for number in (2, 3)
    ]
    assert claimed.damaged == ()
    claimed.home.release()
