"""A gateway that is paused while a peer claims its journal, and wakes: nothing is written twice.

While the paused process lives its lock is held and nobody can claim; here the lock's file is removed, as a restored
backup, a second mount or an eager operator may do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from doubles.worker_process import FakeWorker, Options
from faults.rest import stop, worker_pid
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import StartGateway
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.journal.recovery import claim_dead
from museway_billing.money import NanoUsd
from museway_platform.database.pool import Pool

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]


@pytest.fixture
def siege(start_gateway: StartGateway) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=2)) as worker:
        yield Siege(start_gateway([worker.url], recovery_interval_s="1"), worker)


@pytest.mark.parametrize("number", range(scaled(1, 20)))
def test_a_process_that_wakes_after_its_journal_was_claimed(siege: Siege, number: int) -> None:
    chance = drawn(f"fenced {number}")
    journals = siege.gateway.data_dir / "journal"
    pid = worker_pid(siege.gateway)
    (home,) = journals.glob(f"gateway-{pid}-*")
    with siege.mixed(90, seed=chance.randrange(1 << 30)) as load:
        load.wait_for(answers=chance.randrange(5, 40))
        stop(pid)
        load.leave()
    (home / "lock").unlink()
    claimed = siege.gateway.in_database(lambda pool: claim(pool, journals))
    assert claimed == [home.name]
    woken = time.monotonic()
    os.kill(pid, signal.SIGCONT)
    worker_pid(siege.gateway, other_than=pid)  # fenced, it ends; its parent starts another
    siege.gateway.until_ready()
    siege.judge(killed=True, fenced_at=woken)


async def claim(pool: Pool, journals: Path) -> list[str]:
    """What a peer on this disk does; the ids of the journals it took over, all of them drained."""

    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(journals, process="peer")
    drain = Drain(pool, journal, host="peer", on_drained=told)
    claimed = await asyncio.to_thread(claim_dead, journals, ended=time.time_ns() // 1000)
    for one in claimed:
        drain.adopt(one)
    await drain.close()
    await journal.close()
    return [one.id for one in claimed]
