"""A worker that breaks, lies or falls silent: whoever was hurt by it pays nothing for it, everybody else exactly what came.

A third of a mixed load meets the fault (its prompts hold the word that the script looks for), beside requests that don't.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec import Struct

from bench.mix import Planned
from doubles.worker_process import Behaviour, FakeWorker, Match, Options
from faults.scale import drawn, scaled
from faults.siege import ENGINE, Siege
from gateway import StartGateway

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]

REQUESTS = scaled(60, 600)
HANGUPS = scaled(8, 80)
HURT = "stones"
"""A word in a third of the prompts of `bench.mix`."""


class Fault(Struct, frozen=True, kw_only=True):
    """`shows`: clients who meet it are told that the engine failed. `leaving`: some clients leave in the middle.
    `unread`: what the worker says after it is not believed, its counts included."""

    do: Behaviour
    shows: bool = True
    leaving: bool = True
    unread: bool = False


FAULTS = {
    "dropped before the first token": Fault(do=Behaviour(drop_after=0)),
    "dropped mid-stream": Fault(do=Behaviour(drop_after=5)),
    "closed mid-stream": Fault(do=Behaviour(close_after=5)),
    "half a chunk": Fault(do=Behaviour(half_chunk_after=4)),
    "garbage": Fault(do=Behaviour(malformed_after=4), unread=True),
    "an error event after 200": Fault(
        do=Behaviour(error_event_after=4, message="/srv/models: CUDA out of memory"), unread=True
    ),
    "status 500": Fault(do=Behaviour(status=500, message="Traceback: /srv/sglang/scheduler.py")),
    "a full queue": Fault(do=Behaviour(queue_full=True)),
    "an answer without any count": Fault(do=Behaviour(usage=False), shows=False),
    "counts on chunks alone": Fault(do=Behaviour(final_usage=False), shows=False),
    # Of whoever leaves while they fall, the highest count is all that is known, and may be less than what he got.
    "counts that fall": Fault(do=Behaviour(usage_falls_after=3), shows=False, leaving=False),
    "two final counts": Fault(do=Behaviour(final_usages=2), shows=False),
    "bytes one by one": Fault(do=Behaviour(split_bytes=True), shows=False),
    "no [DONE]": Fault(do=Behaviour(done=False), shows=False),
    "deaf to aborts": Fault(do=Behaviour(abort_deaf=True), shows=False),
}


@pytest.fixture
def siege(start_gateway: StartGateway) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=1)) as worker:
        yield Siege(start_gateway([worker.url]), worker)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_worker(siege: Siege, name: str) -> None:
    fault, seed = FAULTS[name], drawn(name).randrange(1 << 30)
    siege.worker.script(fault.do, Match(text=HURT))
    with siege.mixed(REQUESTS, seed=seed, hangups=HANGUPS if fault.leaving else 0, concurrency=12):
        pass
    siege.worker.script(Behaviour())  # the rule added last wins: the worker is well again
    verdict = siege.judge(forgiven=[ENGINE] if fault.shows else [], unread=fault.unread)
    hurt = {one.request_id for one in verdict.delivered if one.problem}
    assert bool(hurt) == fault.shows, f"{len(hurt)} of {len(verdict.delivered)} requests were told of it"
    paid = [one for one in verdict.records if one.request_id in hurt and one.amount_nano_usd > one.credited_nano_usd]
    assert not paid, "a request that the engine failed is charged"
    assert not any("/srv/" in one.problem for one in verdict.delivered), "a client reads the worker's own words"


def test_an_answer_without_any_count_costs_nothing_and_says_so(siege: Siege) -> None:
    """I8: what was delivered is unknown, not zero and not guessed."""
    siege.worker.script(Behaviour(usage=False))
    siege.one()
    delivered, record, entry = siege.judge(again=False).one()
    assert delivered.output_events and entry.completion
    assert (record.state, record.output, record.unbilled, record.amount_nano_usd) == ("unknown", None, None, 0)


@pytest.mark.parametrize("tokens", [0, 5])
@pytest.mark.parametrize("deaf", [False, True])
def test_a_worker_that_stalls_is_left_with_the_client(siege: Siege, tokens: int, deaf: bool) -> None:
    """The client gives up; the call is aborted, or, where the worker does not obey, cut."""
    siege.worker.script(Behaviour(stall_after=tokens, abort_deaf=deaf))
    with siege.load(hanging(6), concurrency=6) as load:
        for rid in siege.under_way(6):
            siege.worker.wait_for(rid, tokens=tokens)
        load.leave()
    siege.worker.script(Behaviour())
    verdict = siege.judge()
    assert len(verdict.book) == 6
    assert all(entry.aborted or entry.disconnected for entry in verdict.book)


@pytest.mark.parametrize("stream", [True, False])
def test_tokens_that_nobody_asked_for_are_not_billed(siege: Siege, stream: bool) -> None:
    siege.worker.script(Behaviour(overrun=6))
    siege.one(max_tokens=8, stream=stream)
    _, record, entry = siege.judge(overrun=True, again=False).one()
    assert entry.completion > 8
    assert (record.billed, record.unbilled) == (8, entry.completion - 8)


def hanging(count: int) -> list[Planned]:
    body = {"model": "muse", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64, "stream": True}
    return [Planned(form="stalled", body=body) for _ in range(count)]


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_worker_that_is_killed(start_gateway: StartGateway, tokens: int) -> None:
    """Its book dies with it; whoever was being answered is charged nothing, and the next worker is found."""
    with FakeWorker(Options(delay_ms=2)) as worker:
        siege = Siege(start_gateway([worker.url]), worker)
        siege.judge()
        worker.script(Behaviour(stall_after=tokens))
        with siege.load(hanging(8), concurrency=8):
            for rid in siege.under_way(8):
                worker.wait_for(rid, tokens=tokens)
            worker.restart()
        siege.book_is_gone()
        siege.serves(within_s=12)  # one death is one failure to the breaker, however many calls it took with it
        verdict = siege.judge(forgiven=[ENGINE])
        assert [record.amount_nano_usd - record.credited_nano_usd for record in verdict.records] == [0] * 8
        assert all(record.state == ("interrupted" if tokens else "failed") for record in verdict.records)


def test_a_worker_that_writes_spaces(start_gateway: StartGateway) -> None:
    with FakeWorker(Options(spaces=True, cumulative=True)) as worker:
        siege = Siege(start_gateway([worker.url]), worker)
        with siege.mixed(REQUESTS, seed=drawn("spaces").randrange(1 << 30), hangups=HANGUPS):
            pass
        siege.judge()
