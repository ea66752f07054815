"""Reconciliation beside a system that works: what is on the way is no difference, however often one looks."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from calls import WORKER, finished, identity
from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.journal.log import SEGMENT_BYTES_MIN
from museway_billing.money import NanoUsd
from museway_billing.prices.store import seed
from museway_billing.reconcile import Report, reconcile
from museway_platform.database.pool import Pool

LOOKS = 40
BODY = {"model": "muse", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 40, "stream": True}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder whose syncs cost nothing: what turns over fast shows more."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.anyio
async def test_segments_that_come_and_go_under_our_eyes(pool: Pool, memory: Path) -> None:
    """Four records fill a segment, and the drain deletes it: thousands of chances to look at the wrong moment."""

    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(memory, process="gateway", slots=8, segment_bytes=SEGMENT_BYTES_MIN * 2)
    drain = Drain(pool, journal, host="h", on_drained=told)
    numbers = count(1)

    async def calls() -> None:
        while True:
            for _ in range(10):
                slot = journal.open_slot(identity(next(numbers)))
                slot.dispatched(WORKER)
                slot.update(120, 20, 3, 3)
                await journal.append(finished(slot.identity))
                slot.free()
            await drain.flush()

    async with pool.acquire() as connection:
        async with connection.transaction():
            await seed(connection)
        # tidy: allow task: ended below
        tasks = [asyncio.ensure_future(work) for work in (calls(), calls(), calls())]
        try:
            async with asyncio.timeout(60):
                looks, records = 0, 0
                while looks < LOOKS or records < 500:
                    report = await reconcile(connection, journals=memory)
                    assert report.ok, report.differences
                    assert len(report.journals) == 1
                    looks, records = looks + 1, report.records
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
        await drain.flush()
        assert (await reconcile(connection, journals=memory)).ok
    await journal.close()


def test_beside_a_gateway_under_load(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer(usd=1000)
    fake_worker.script(Behaviour(tokens=8))
    ended = threading.Event()

    def ask() -> None:
        with gateway.client(customer.secret, timeout=30) as client:
            while not ended.is_set():
                with client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
                    for _ in answer.iter_lines():
                        pass

    async def look(pool: Pool) -> list[Report]:
        reports: list[Report] = []
        until = time.monotonic() + 60
        async with pool.acquire() as connection:
            while len(reports) < LOOKS or (reports[-1].records < 100 and time.monotonic() < until):
                reports.append(await reconcile(connection, journals=gateway.data_dir / "journal"))
        return reports

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        reports = gateway.in_database(look)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert [report.differences for report in reports if not report.ok] == []
    assert any(journal.records or journal.open_slots for report in reports for journal in report.journals)
    assert reports[-1].records >= 100
