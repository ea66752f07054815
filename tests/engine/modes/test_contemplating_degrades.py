"""One agent failing fails nothing; time and money that run out end a deliberation with what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from asking.allowance import Book
from asking.ask import contemplate, in_rank, opened, run
from asking.deliberating import check_book, prompts, say
from doubles.fake_worker.vocabulary import decode
from doubles.worker_process import Behaviour, FakeWorker, Match, Options
from museway_engine.allowance import AllowanceRefused, CallSpec, Outcome
from museway_engine.completion import Contemplating
from museway_engine.events import Agent
from museway_engine.rid import Phase

pytestmark = pytest.mark.anyio

_SLOW = Behaviour(tokens=400, delay_ms=20)


async def test_an_agent_that_fails_degrades(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=50, drop_after=5, delay_ms=1), Match(phase="t", agent=1))
        fake_worker.script(Behaviour(status=500), Match(phase="t", agent=2))
        book = Book()
        heard = await run(engine, contemplate(contemplating=Contemplating(agents=4)), book)
    assert heard.output
    outcomes = [call.end.outcome for call in book.calls]
    assert outcomes == [Outcome.COMPLETE, Outcome.INTERRUPTED, Outcome.FAILED, Outcome.COMPLETE, Outcome.COMPLETE]
    states = {e.index: e.state for e in heard.events if isinstance(e, Agent)}
    assert states == {0: "done", 1: "failed", 2: "failed", 3: "done"}


async def test_all_agents_fail_and_a_plain_answer_is_given(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(status=400), Match(phase="t"))
        book = Book()
        heard = await run(engine, contemplate(), book)
    assert heard.output
    assert heard.done.stop_reason == "degraded"
    assert book.calls[-1].spec.phase is Phase.ANSWER


@pytest.mark.parametrize("phase", ["t", "s"])
async def test_the_worker_dies_and_another_goes_on(phase: str) -> None:
    async with FakeWorker(Options(delay_ms=2)) as one, FakeWorker(Options(delay_ms=2)) as other:
        async with opened(one, other) as engine:
            completion = contemplate(contemplating=Contemplating(agents=4))
            first = one if in_rank(engine, completion)[0] == one.url else other
            first.script(Behaviour(die_after=0), Match(phase=phase))
            for worker in (one, other):
                worker.script(Behaviour(text="Draft.\nFINAL: n/a", delay_ms=0), Match(phase="t", agent=0))
            book = Book()
            heard = await run(engine, completion, book)
            assert heard.output
            book.check_closed()
            assert book.calls[-1].worker != first.url
            assert book.calls[-1].end.outcome is Outcome.COMPLETE


async def test_it_goes_to_one_worker_as_a_group() -> None:
    async with FakeWorker() as one, FakeWorker() as other, opened(one, other) as engine:
        await run(engine, contemplate())
        assert sorted([len(one.book()), len(other.book())]) == [0, 9]


async def test_the_deadline_takes_what_is_there(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        say(fake_worker, 0, "Draft zero.")
        for agent in (1, 2, 3):
            fake_worker.script(_SLOW, Match(phase="t", agent=agent))
        fake_worker.script(Behaviour(text="Composed."), Match(phase="s"))
        book = Book()
        heard = await run(engine, contemplate(deadline_ms=1000, contemplating=Contemplating(agents=4)), book)
    check_book(book, fake_worker)
    assert heard.output == "Composed."
    assert heard.done.stop_reason == "deadline"
    text = decode(prompts(fake_worker, "s")[0])
    assert "Draft zero." in text
    assert text.count("<<<") == 2


async def test_the_deadline_with_no_draft_takes_the_longest_fragment(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(_SLOW, Match(phase="t"))
        fake_worker.script(Behaviour(text="Composed."), Match(phase="s"))
        heard = await run(engine, contemplate(deadline_ms=600, contemplating=Contemplating(agents=2)))
    assert heard.output == "Composed."
    assert heard.done.stop_reason == "deadline"


# ---------------------------------------------------------------------- money


def _refuse(*phases: Phase, agents: Callable[[int], bool] = lambda agent: True) -> Callable[[CallSpec], bool]:
    return lambda spec: spec.phase in phases and agents(spec.agent)


async def test_a_refusal_of_some_agents_composes_with_what_is_there(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        book = Book(refuse=_refuse(Phase.THINK, agents=lambda agent: agent >= 2))
        heard = await run(engine, contemplate(contemplating=Contemplating(agents=4)), book)
    assert heard.output
    assert heard.done.stop_reason in ("budget", "length")
    assert len(book.calls) == 3


async def test_a_refusal_of_all_agents_is_the_allowances_own(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        with pytest.raises(AllowanceRefused):
            await run(engine, contemplate(), Book(refuse=_refuse(Phase.THINK)))


async def test_an_agent_whose_cover_is_used_up_is_stopped(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=300, delay_ms=2), Match(phase="t", agent=0))
        say(fake_worker, 1, "Draft one.")
        book = Book(cover=lambda spec: 20 if spec.phase is Phase.THINK and spec.agent == 0 else None)
        heard = await run(engine, contemplate(contemplating=Contemplating(agents=2)), book)
    entries = check_book(book, fake_worker)
    covered = book.calls[0]
    assert entries[covered.spec.rid].aborted is not None
    assert covered.produced < 60
    assert heard.output


async def test_rounds_that_do_not_fit_are_not_begun(fake_worker: FakeWorker) -> None:
    def fit(specs: Sequence[CallSpec]) -> bool:
        return not any(spec.phase is Phase.REFINE for spec in specs)

    async with opened(fake_worker) as engine:
        book = Book(fit=fit)
        heard = await run(engine, contemplate(contemplating=Contemplating(agents=2, rounds=2), max_tokens=200), book)
    assert heard.done.rounds == 0
    assert heard.done.stop_reason == "budget"


async def test_fewer_agents_start_where_not_all_fit(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        book = Book(fit=lambda specs: len(specs) <= 4)
        await run(engine, contemplate(), book)
    assert len([c for c in book.calls if c.spec.phase is Phase.THINK]) == 3


@pytest.mark.parametrize("agents", [{0}, {0, 1, 2, 3}])
async def test_a_failure_that_is_not_the_engines_ends_the_request(fake_worker: FakeWorker, agents: set[int]) -> None:
    """No room to record a call, for one: nobody waits for an agent that never was."""

    def refuse(spec: CallSpec) -> bool:
        if spec.agent in agents:
            raise MemoryError
        return False

    async with opened(fake_worker) as engine:
        with pytest.raises(MemoryError):
            await run(engine, contemplate(contemplating=Contemplating(agents=4)), Book(refuse=refuse))
