"""What only the real engine can show: budgets, shared prefixes, isolation, placement, tools, schemas, aborts."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
import uuid
from typing import Any

import pytest
from msgspec import Raw

from asking.allowance import Book
from asking.ask import Heard, ask, in_rank, opened, run
from museway_engine.allowance import Outcome
from museway_engine.completion import (
    Completion,
    Contemplating,
    Message,
    Mode,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from museway_engine.engine import Engine
from museway_engine.events import Output, Reasoning, ToolCall
from museway_engine.pool.isolation import cache_salt
from museway_engine.rid import Phase
from museway_engine.worker.client import Timing

pytestmark = [pytest.mark.anyio, pytest.mark.engine]

_PATIENT = Timing(first_byte_s=300, idle_s=120)
_GREEDY = Sampling(temperature=0.0)


def _own() -> str:
    """A salt that no other test or run has: its prefixes start cold."""
    return cache_salt(b"tests", uuid.uuid4().hex)


def _long(words: int = 150) -> str:
    mark = uuid.uuid4().hex[:8]
    return f"Remember the word {mark}. " + "The river runs past the old stone bridge and the mill. " * (words // 11)


async def test_the_profile_is_found_and_proved(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        (model,), (worker,) = engine.models(), engine.workers()
        assert model.context == 8192
        assert worker.ready
        prepared = engine.prepare(ask(max_tokens=None, mode=Mode.THINKING))
        assert (prepared.budget, prepared.max_tokens) == (128, 384)  # smollm2-cpu


async def test_the_input_bound_holds_with_tools_and_every_role(real_worker: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": 'é\n"x"'}}}
    messages = (
        Message(role="system", content="Be brief. 日本語 🙂"),
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="I look."),
        Message(role="tool", content='{"sky": "grey"}', tool_call_id="call_1"),
        Message(role="user", content="So?"),
    )
    tools = tuple(
        Tool(name=f"tool_{n}", description="Does it", parameters=Raw(json.dumps(schema).encode())) for n in range(3)
    )
    async with opened(real_worker, timing=_PATIENT) as engine:
        for fields in ({}, {"tools": tools}, {"messages": messages}, {"messages": messages, "tools": tools}):
            completion = ask("x", max_tokens=2, **fields)
            book = Book()  # asserts that what is counted stays within the bound
            await run(engine, completion, book)
            (counted, _), bound = book.calls[0].prompts[0], engine.prepare(completion).prompt_bound
            assert counted == len(await engine.tokenize(completion)) <= bound
            assert bound < 4 * counted + 400


async def test_streamed_and_whole_answers_agree(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        said: list[str] = []
        for stream in (True, False):
            book = Book()
            heard = await run(engine, ask("Count to five.", max_tokens=16, stream=stream, sampling=_GREEDY), book)
            said.append(heard.output)
            assert book.calls[0].end.outcome is Outcome.COMPLETE
            assert [e.n for e in heard.events if isinstance(e, Output)][-1] <= book.calls[0].produced
        assert said[0] == said[1] != ""


async def test_the_thinking_budget_is_exact_and_the_answer_continues_from_cache(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        completion = ask("Tell me a long story about a fox.", mode=Mode.THINKING, max_tokens=52, sampling=_GREEDY)
        prompt, book = len(await engine.tokenize(completion)), Book()
        heard = await run(engine, completion, book, salt=_own())
        chain, answer = book.calls
        assert heard.done.budget == 20
        assert (chain.produced, heard.done.used) == (20, 20)
        assert answer.produced <= 32
        assert chain.spec.priced_prompt == prompt
        counted, cached = answer.prompts[0]
        assert cached >= chain.prompts[0][0] + chain.produced - 1
        assert counted == answer.spec.prompt_bound
        assert heard.reasoning
        assert heard.output


async def test_agents_share_the_prefix_and_the_bill_is_the_workers(real_worker: str) -> None:
    completion = ask(
        _long(),
        mode=Mode.CONTEMPLATING,
        max_tokens=12,
        contemplating=Contemplating(agents=4, agent_max_tokens=16),
    )
    async with opened(real_worker, timing=_PATIENT) as engine:
        book = Book()
        heard = await run(engine, completion, book, salt=_own())
    agents = [call for call in book.calls if call.spec.phase is Phase.THINK]
    leader, *others = agents
    assert leader.prompts[0][1] == 0
    for call in others:
        counted, cached = call.prompts[0]
        assert cached == counted - 1
    assert all(call.end.outcome is Outcome.COMPLETE for call in book.calls)
    composed = book.calls[-1]
    assert composed.prompts[0][1] >= composed.spec.policy_cached
    assert heard.output


async def test_an_equal_prompt_of_another_organization_finds_nothing(real_worker: str) -> None:
    words, one, other = _long(60), _own(), _own()
    cached: list[int] = []
    async with opened(real_worker, timing=_PATIENT) as engine:
        for salt in (one, one, other):
            book = Book()
            await run(engine, ask(words, max_tokens=1), book, salt=salt)
            cached.append(book.calls[0].prompts[0][1])
    assert cached[0] == cached[2] == 0
    assert cached[1] > 50


def _object(**properties: dict[str, Any]) -> Raw:
    """The schema of an object that has exactly these."""
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return Raw(json.dumps(schema).encode())


async def test_a_required_tool_is_called(real_worker: str) -> None:
    tools = (Tool(name="get_weather", parameters=_object(city={"type": "string", "maxLength": 12}), strict=True),)
    fields: dict[str, Any] = {"tools": tools, "tool_choice": ToolChoice("required"), "sampling": _GREEDY}
    async with opened(real_worker, timing=_PATIENT) as engine:
        for mode, maximum in ((Mode.INSTANT, 60), (Mode.THINKING, 120)):
            heard = await run(engine, ask("Weather in Paris?", mode=mode, max_tokens=maximum, **fields))
            calls = [event for event in heard.events if isinstance(event, ToolCall)]
            assert calls[0].name == "get_weather"
            assert calls[0].id
            assert "city" in json.loads("".join(json.loads(call.arguments) for call in calls))
            assert heard.finishes[0] in ("tool_calls", "length")  # so small a model may not find the end


async def test_a_schema_holds_also_after_thinking(real_worker: str) -> None:
    wanted = ResponseFormat(kind="json_schema", name="answer", schema=_object(ok={"type": "boolean"}), strict=True)
    async with opened(real_worker, timing=_PATIENT) as engine:
        for mode in (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING):
            own = Contemplating(agents=2, agent_max_tokens=16)
            heard = await run(
                engine, ask("Is water wet?", mode=mode, max_tokens=60, response_format=wanted, contemplating=own)
            )
            assert isinstance(json.loads(heard.output)["ok"], bool)


async def test_log_probabilities_come_along(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        heard = await run(engine, ask(max_tokens=4, sampling=Sampling(logprobs=True, top_logprobs=2)))
        outputs = [event for event in heard.events if isinstance(event, Output)]
        assert outputs
        assert all(event.logprobs is not None and b"top_logprobs" in bytes(event.logprobs) for event in outputs)


async def test_an_abort_frees_the_slot_and_is_counted(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        completion = ask("Write a very long story.", max_tokens=600, sampling=Sampling(temperature=1.2))
        book = Book()
        async with engine.run(
            engine.prepare(completion), allowance=book, cache_salt=_own(), affinity_salt="s"
        ) as batches:
            seen = 0
            while seen < 4:
                seen += len(await anext(batches))
            left = time.monotonic()
        assert time.monotonic() - left < 2.0
        assert book.calls[0].end.outcome is Outcome.COMPLETE  # the last chunk was read
        assert seen <= book.calls[0].produced < 60
        rid = book.calls[0].spec.rid
        assert not await asyncio.to_thread(_is_live, real_worker, rid)


def _is_live(url: str, rid: str) -> bool:
    """The worker refuses a rid that is live already."""
    body = json.dumps({"text": "x", "sampling_params": {"max_new_tokens": 1}, "rid": rid}).encode()
    request = urllib.request.Request(f"{url}/generate", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return b"Duplicate" in answer.read()


async def _turn(engine: Engine, history: list[Message], salt: str) -> tuple[str, int, int]:
    """One turn of a conversation: the worker's URL, prompt tokens, cached tokens. The answer joins the history."""
    completion = Completion(
        request_id=ask().request_id,
        model="muse",
        messages=tuple(history),
        stream=True,
        max_tokens=6,
        sampling=_GREEDY,
    )
    book = Book()
    heard: Heard = await run(engine, completion, book, salt=salt)
    history += [Message(role="assistant", content=heard.output), Message(role="user", content="And then?")]
    (call,) = book.calls
    assert call.worker is not None
    return call.worker, *call.prompts[0]


def _three_for_each(engine: Engine, salt: str) -> list[list[Message]]:
    """First messages of six conversations, three of which prefer either worker."""
    chosen: dict[str, list[list[Message]]] = {worker.url: [] for worker in engine.workers()}
    while any(len(histories) < 3 for histories in chosen.values()):
        words = _long()
        histories = chosen[in_rank(engine, ask(words), salt=salt)[0]]
        if len(histories) < 3:
            histories.append([Message(role="user", content=words)])
    return [history for histories in chosen.values() for history in histories]


@pytest.mark.timeout(900)
async def test_conversations_stay_where_their_prefix_is(real_worker: str, second_real_worker: str) -> None:
    salt = _own()
    async with opened(real_worker, second_real_worker, timing=_PATIENT) as engine:
        histories = _three_for_each(engine, salt)
    places: list[set[str]] = [set() for _ in histories]
    counted = cached = 0
    for turns in (range(3), range(3, 4)):  # the last turn by a new engine: nothing is remembered but the hash
        async with opened(real_worker, second_real_worker, timing=_PATIENT) as engine:
            for turn in turns:
                told = await asyncio.gather(*(_turn(engine, history, salt) for history in histories))
                for place, (worker, prompt, found) in zip(places, told, strict=True):
                    place.add(worker)
                    if turn > 0:
                        counted, cached = counted + prompt, cached + found
    assert all(len(place) == 1 for place in places)
    assert len({worker for place in places for worker in place}) == 2
    assert cached >= 0.9 * counted


async def test_reasoning_and_output_counts_never_pass_the_workers(real_worker: str) -> None:
    async with opened(real_worker, timing=_PATIENT) as engine:
        book = Book()
        heard = await run(engine, ask(mode=Mode.THINKING, max_tokens=60), book)
        made = {call.spec.rid: call.produced for call in book.calls}
        for event in heard.events:
            if isinstance(event, Output | Reasoning):
                assert 0 < event.n <= made[event.rid]
