"""One chain in two calls: budgets to the token, markers unseen, the client's fields only in the answer."""

from __future__ import annotations

from typing import Any

import pytest

from asking.allowance import Book
from asking.ask import Heard, ask, opened, run
from doubles.worker_process import Behaviour, FakeWorker, Match
from museway_engine.allowance import Blame, Outcome
from museway_engine.completion import Completion, Effort, Message, Mode, ResponseFormat, Sampling, Tool, ToolChoice
from museway_engine.errors import WorkerLost
from museway_engine.events import Output, Reasoning, ToolCall
from museway_engine.rid import Phase

pytestmark = pytest.mark.anyio

_CLOSE = "\nFinal answer:"


def think(words: str = "Why is the sky blue?", **fields: Any) -> Completion:
    return ask(words, **{"mode": Mode.THINKING, "max_tokens": 100, **fields})


def _sent(worker: FakeWorker, path: str) -> list[dict[str, Any]]:
    return [seen.body for seen in worker.requests() if seen.path == path]


def _check_counts(heard: Heard, book: Book, worker: FakeWorker) -> None:
    entries = worker.by_rid()
    for call in book.calls:
        assert call.produced == entries[call.spec.rid].completion
    for kind in (Reasoning, Output):
        counts = [e.n for e in heard.events if isinstance(e, kind)]
        assert counts == sorted(counts)


async def test_the_budget_is_exact_to_the_token(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=500))
        for maximum, budget in ((100, 68), (40, 8), (33, 1)):
            book = Book()
            heard = await run(engine, think(max_tokens=maximum), book)
            chain, answer = book.calls
            assert (chain.produced, answer.produced) == (budget, maximum - budget)
            assert (heard.done.budget, heard.done.used) == (budget, budget)
            assert heard.done.stop_reason == "length"
            _check_counts(heard, book, fake_worker)


async def test_what_is_charged_and_for_which_phase(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        completion = think()
        prompt = len(await engine.tokenize(completion))
        book = Book()
        await run(engine, completion, book)
        chain, answer = (call.spec for call in book.calls)
        assert (chain.phase, answer.phase) == (Phase.THINK, Phase.CONTINUATION)
        assert (chain.priced_prompt, answer.priced_prompt) == (prompt, 0)
        assert chain.produces_reasoning
        assert not chain.internal
        assert not answer.internal
        assert chain.rid[-10:] == ".t00000010"
        assert answer.rid[-10:] == ".c00000020"
        assert answer.prompt_bound == book.calls[1].prompts[0][0]


async def test_the_second_call_continues_the_first_by_ids(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=500))
        await run(engine, think())
        first = _sent(fake_worker, "/generate")[-1]["input_ids"]
        second = _sent(fake_worker, "/v1/chat/completions")[-1]["input_ids"]
        chain, answer = fake_worker.book()
        assert second[: len(first)] == first
        assert answer.cached >= chain.prompt + chain.completion - 1


async def test_a_chain_that_closes_by_itself(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(text=f"Because of scattering.{_CLOSE} blue light"), Match(phase="t"))
        fake_worker.script(Behaviour(text=" It scatters."), Match(phase="c"))
        book = Book()
        heard = await run(engine, think(), book)
        assert heard.reasoning == "Because of scattering."
        assert heard.output == "It scatters."
        assert heard.done.stop_reason == "complete"
        used = heard.done.used
        assert used is not None
        assert used == book.calls[0].produced < 68
        assert book.calls[1].spec.max_tokens == 100 - used


@pytest.mark.parametrize("behaviour", [Behaviour(split_bytes=True), Behaviour(tokens_per_chunk=3)])
async def test_no_piece_of_the_marker_shows(fake_worker: FakeWorker, behaviour: Behaviour) -> None:
    async with opened(fake_worker) as engine:
        behaviour.text = f"It is \nFinal, almost. \nFinal answers are rare.{_CLOSE} x"
        fake_worker.script(behaviour, Match(phase="t"))
        heard = await run(engine, think())
        assert heard.reasoning == "It is \nFinal, almost. \nFinal answers are rare."


async def test_an_end_token_inside_the_chain(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(text="Scattering \nFinal"), Match(phase="t"))
        fake_worker.script(Behaviour(text="It scatters."), Match(phase="c"))
        heard = await run(engine, think())
        assert heard.reasoning == "Scattering \nFinal"
        assert heard.done.stop_reason == "eos"
        end = 2
        assert end not in _sent(fake_worker, "/v1/chat/completions")[-1]["input_ids"][-10:]


async def test_a_worker_that_ignores_the_budget_is_cut(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=500, overrun=60, delay_ms=1), Match(phase="t"))
        book = Book()
        heard = await run(engine, think(max_tokens=60), book)
        budget = 28
        assert (heard.done.budget, heard.done.used) == (budget, budget)
        assert max(e.n for e in heard.events if isinstance(e, Reasoning)) <= budget
        assert book.calls[0].end.blame is Blame.CLIENT
        assert fake_worker.by_rid()[book.calls[0].spec.rid].aborted is not None
        opening = _sent(fake_worker, "/generate")[-1]["input_ids"]
        cut = 5
        assert len(_sent(fake_worker, "/v1/chat/completions")[-1]["input_ids"]) == len(opening) + budget + cut


async def test_the_clients_fields_are_only_in_the_answer(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        sampling = Sampling(stop=("the",), temperature=0.3, seed=5, logprobs=True, top_logprobs=1)
        schema = ResponseFormat(kind="json_object")
        heard = await run(engine, think(sampling=sampling, response_format=schema))
        first = _sent(fake_worker, "/generate")[-1]
        second = _sent(fake_worker, "/v1/chat/completions")[-1]
        assert first["sampling_params"]["stop"] == [_CLOSE]
        assert first["sampling_params"]["temperature"] == 0.3
        assert "response_format" not in first
        assert second["stop"] == ["the"]
        assert second["response_format"] == {"type": "json_object"}
        assert second["logprobs"] is True
        assert second["separate_reasoning"] is False
        assert second["messages"] == [{"role": "user", "content": "x"}]
        assert any(e.logprobs for e in heard.events if isinstance(e, Output))


async def test_tools_may_be_called_after_thinking(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        tools = (Tool(name="get_weather"),)
        heard = await run(engine, think(tools=tools, tool_choice=ToolChoice("required"), max_tokens=400))
        calls = [e for e in heard.events if isinstance(e, ToolCall)]
        assert calls[0].name == "get_weather"
        assert heard.finishes == {0: "tool_calls"}
        assert heard.done.stop_reason == "tool_call"


async def test_n_chains_pay_one_prompt(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        book = Book()
        heard = await run(engine, think(n=3, sampling=Sampling(seed=1)), book)
        assert heard.finishes.keys() == {0, 1, 2}
        assert len(book.calls) == 6
        assert [bool(c.spec.priced_prompt) for c in book.calls if c.spec.phase is Phase.THINK] == [True, False, False]
        assert len({heard.choice(n) for n in range(3)}) == 3
        _check_counts(Heard([e for e in heard.events if getattr(e, "choice", 0) == 0]), book, fake_worker)


@pytest.mark.parametrize("fields", [{"max_tokens": 20}, {"effort": Effort.NONE}])
async def test_no_room_to_think_is_an_instant_answer(fake_worker: FakeWorker, fields: dict[str, Any]) -> None:
    async with opened(fake_worker) as engine:
        book = Book()
        heard = await run(engine, think(**fields), book)
        assert [call.spec.phase for call in book.calls] == [Phase.ANSWER]
        assert heard.reasoning == ""


async def test_a_long_prompt_shrinks_what_the_client_did_not_ask_for(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=3000))
        completion = think("word " * 7000, max_tokens=None)
        prompt = len(await engine.tokenize(completion))
        heard = await run(engine, completion)
        budget = heard.done.budget
        assert budget is not None
        assert 0 < budget < 2048
        assert prompt + budget < 8192


@pytest.mark.parametrize("phase", ["t", "c"])
async def test_the_worker_is_lost_in_either_call(phase: str) -> None:
    async with FakeWorker() as worker, opened(worker) as engine:
        worker.script(Behaviour(tokens=200, delay_ms=5, drop_after=5), Match(phase=phase))
        book = Book()
        with pytest.raises(WorkerLost) as caught:
            await run(engine, think(), book)
        assert caught.value.delivered
        book.check_closed()
        assert book.calls[-1].end.outcome is Outcome.INTERRUPTED
        assert book.calls[-1].end.blame is Blame.WORKER


async def test_a_deadline_cuts_the_chain_and_leaves_time_to_answer(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=1000, delay_ms=5), Match(phase="t"))
        fake_worker.script(Behaviour(text="Blue."), Match(phase="c"))
        book = Book()
        heard = await run(engine, think(max_tokens=1000, deadline_ms=800), book)
        assert heard.output == "Blue."
        assert heard.done.stop_reason == "deadline"
        assert 0 < (heard.done.used or 0) < 900


async def test_a_tool_result_last_is_thought_about_too(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        messages = (
            Message(role="user", content="Weather?"),
            Message(role="assistant", content="I look."),
            Message(role="tool", content="rain", tool_call_id="c1"),
        )
        heard = await run(engine, think(messages=messages))
        assert heard.reasoning
        assert heard.output
