"""The log, its readers and the gate: what is given out, and when the producer may go on."""

from __future__ import annotations

import asyncio

import pytest

from museway_platform.idempotency.names import Namer
from museway_platform.idempotency.run import Run

pytestmark = pytest.mark.anyio

NAME = Namer([b"s" * 32]).names(project="prj_a", route="/r", key=b"k", body="x")[0]


class Tried:
    """A coroutine that may or may not be over."""

    def __init__(self, work: asyncio.Task[None]) -> None:
        self.work = work

    @classmethod
    def gate(cls, run: Run) -> Tried:
        return cls(asyncio.ensure_future(run.gate()))

    async def passed(self) -> bool:
        for _ in range(5):
            await asyncio.sleep(0)  # tidy: allow sleep: gives the loop its turns, waits for nothing
        return self.work.done()


@pytest.fixture
def run() -> Run:
    return Run(NAME, "req_1", "org_1")


async def test_the_gate_waits_for_a_reader_that_has_taken_everything(run: Run) -> None:
    tried = Tried.gate(run)
    assert not await tried.passed()
    with run.attach() as reader:
        assert not await tried.passed(), "it is there and has not asked"
        reading = asyncio.ensure_future(reader.read())
        assert await tried.passed()
        run.append(b"a")
        again = Tried.gate(run)
        assert not again.work.done()
        assert await reading == [b"a"]
        assert not await again.passed(), "a was given to it, and it is not back"
        reading = asyncio.ensure_future(reader.read())
        assert await again.passed()
        reading.cancel()


async def test_nobody_is_there_any_more(run: Run) -> None:
    with run.attach() as reader:
        reading = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)  # tidy: allow sleep: gives the loop its turn, waits for nothing
        reading.cancel()
    assert not await Tried.gate(run).passed()


async def test_one_slow_reader_does_not_hold_another(run: Run) -> None:
    with run.attach(), run.attach() as quick:
        reading = asyncio.ensure_future(quick.read())
        assert await Tried.gate(run).passed()
        reading.cancel()


async def test_late_readers(run: Run) -> None:
    run.append(b"a", b"b")
    with run.attach() as first, run.attach(1) as second, run.attach(2) as third:
        assert await first.read() == [b"a", b"b"]
        assert await second.read() == [b"b"]
        waiting = asyncio.ensure_future(third.read())
        run.append(b"c")
        assert await waiting == [b"c"]
        run.end()
        assert await first.read() == [b"c"]
        assert await first.read() == await second.read() == [] or await second.read() == []


async def test_an_error_comes_after_the_rest(run: Run) -> None:
    run.append(b"a")
    run.end(ValueError("x"))
    with run.attach() as reader:
        assert await reader.read() == [b"a"]
        with pytest.raises(ValueError, match="x"):
            await reader.read()


async def test_abandoned_after_the_grace_and_only_then(run: Run) -> None:
    abandoned = asyncio.Event()
    run.begin(grace_s=0.01, abandon=abandoned.set)
    with run.attach():
        assert run.is_attended
    with run.attach():
        await asyncio.wait([asyncio.ensure_future(abandoned.wait())], timeout=0.05)
        assert not abandoned.is_set(), "somebody came back in time"
    async with asyncio.timeout(5):
        await abandoned.wait()


async def test_a_run_that_is_over_is_not_abandoned(run: Run) -> None:
    abandoned = asyncio.Event()
    run.begin(grace_s=0.0, abandon=abandoned.set)
    run.end()
    with run.attach():
        pass
    assert not await Tried(asyncio.ensure_future(_wait(abandoned))).passed()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
