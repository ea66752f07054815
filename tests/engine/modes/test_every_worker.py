"""Every mode on every kind of worker that may stand behind a URL: spellings, streams, reports, routers."""

from __future__ import annotations

import pytest

from asking.allowance import Book
from asking.ask import ask, opened, run
from doubles.worker_process import Behaviour, FakeWorker, Match, Options
from museway_engine.allowance import Outcome
from museway_engine.completion import Contemplating, Mode
from museway_engine.events import UNKNOWN, Output

pytestmark = pytest.mark.anyio

_WORKERS = {
    "spaced": Options(spaces=True),
    "cumulative": Options(cumulative=True, spaces=True),
    "no-cache-report": Options(cache_details="null"),
    "cache-when-positive": Options(cache_details="positive"),
    "router": Options(router=True),
    "no-parser": Options(reasoning_parser=False),
    "slow": Options(delay_ms=2, prefill_us=50),
}
_MODES = (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING)


@pytest.mark.parametrize("name", _WORKERS)
async def test_all_modes(name: str) -> None:
    async with FakeWorker(_WORKERS[name]) as worker, opened(worker) as engine:
        for mode in _MODES:
            for stream in (True, False):
                book = Book()
                own = Contemplating(agents=3, rounds=1, agent_max_tokens=30)
                heard = await run(engine, ask(mode=mode, max_tokens=50, stream=stream, contemplating=own), book)
                assert heard.output.strip()
                assert heard.finishes.keys() == {0}
                entries = {entry.rid: entry for entry in worker.wait_idle()}
                for call in book.calls:
                    assert call.end.outcome is Outcome.COMPLETE
                    assert call.produced == entries[call.spec.rid].completion
                for event in heard.events:
                    if isinstance(event, Output) and event.rid in entries:
                        assert 0 < event.n <= entries[event.rid].completion


async def test_no_counts_anywhere(fake_worker: FakeWorker) -> None:
    """Unknown is not zero, and is no reason to fail."""
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(usage=False))
        for mode in _MODES:
            book = Book()
            own = Contemplating(agents=2, agent_max_tokens=30)
            heard = await run(engine, ask(mode=mode, max_tokens=50, contemplating=own), book)
            assert heard.output.strip()
            assert {event.n for event in heard.events if isinstance(event, Output)} == {UNKNOWN}


async def test_reasoning_that_a_worker_tells_apart_in_instant(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(reasoning="Let me see.", text="Four."), Match(route="chat"))
        for stream in (True, False):
            book = Book()
            heard = await run(engine, ask("2 + 2", stream=stream), book)
            assert heard.reasoning == "Let me see."
            assert heard.output.strip() == "Four."
            counts = book.calls[0].end.counts
            assert counts is not None
            assert counts.reasoning == fake_worker.book()[-1].reasoning > 0
