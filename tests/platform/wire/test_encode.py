"""What events become on the wire: snapshots for eyes, OpenAI's schemas and package for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import openai.types.chat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from museway_engine.completion import Completion, Message, Mode, Sampling
from museway_engine.events import (
    Agent,
    AnyEvent,
    Chosen,
    Done,
    Finish,
    Output,
    PhaseStarted,
    Reasoning,
    ToolCall,
)
from museway_engine.rid import Phase
from museway_platform.wire.chat.answers import ChatCompletion, ChatCompletionChunk
from museway_platform.wire.chat.decode import ChatCall
from museway_platform.wire.chat.encode import ChatAnswer, ChatStream
from museway_platform.wire.chat.usage import AgentUse, AutoChoice, Museway, ThinkingUse, Usage
from museway_platform.wire.refusals import ErrorBody, ErrorDetail
from traffic import validator

SNAPSHOTS = Path(__file__).parent / "snapshots"
RID = "req_01.a000000000"
USAGE = Usage.of(input_tokens=7, cached_tokens=5, reasoning_tokens=3, output_tokens=4)
MUSEWAY = Museway(
    request_id="req_01",
    mode=Mode.THINKING,
    price_version=3,
    cost_nano_usd=12345,
    stop_reason="complete",
    client_prompt_tokens=12,
    thinking=ThinkingUse(budget=64, used=3),
)
LOGPROBS = msgspec.Raw(b'{"content": [{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}]}')


def literal(text: str) -> bytes:
    return json.dumps(text).encode()


def call(*, n: int = 1, logprobs: bool = False, **fields: Any) -> ChatCall:
    completion = Completion(
        request_id="req_01",
        model="muse",
        messages=(Message(role="user", content="x"),),
        stream=True,
        n=n,
        sampling=Sampling(logprobs=logprobs),
    )
    return ChatCall(completion=completion, model_as_asked="muse-thinking", **fields)


def stream(call: ChatCall, *batches: list[AnyEvent]) -> bytes:
    encoder = ChatStream(call, created=1_700_000_000)
    body = [encoder.batch(batch) for batch in batches]
    return b"".join([encoder.start(), *body, encoder.end(USAGE, MUSEWAY)])


def chunks(body: bytes) -> list[Any]:
    """The chunks, each checked by OpenAI's schema, OpenAI's package and our own shape."""
    events = body.split(b"\n\n")
    assert events.pop() == b""
    assert events[-1] == b"data: [DONE]"
    found: list[Any] = []
    for event in events[:-1]:
        if event.startswith(b": "):
            continue
        data = event.removeprefix(b"data: ")
        chunk = json.loads(data)
        valid("CreateChatCompletionStreamResponse", chunk)
        valid("ChatCompletionChunk", chunk)
        openai.types.chat.ChatCompletionChunk.model_validate(chunk, strict=True)
        shape = msgspec.json.decode(data, type=ChatCompletionChunk)
        assert json.loads(msgspec.json.encode(shape)) == chunk, "a key that no shape describes"
        found.append(chunk)
    return found


def valid(schema: str, value: Any) -> None:
    found = validator(schema).iter_errors(value)  # pyright: ignore[reportUnknownMemberType]
    errors = [f"{error.json_path}: {error.message}" for error in found]
    assert not errors, errors


def text_of(found: list[Any], choice: int = 0, key: str = "content") -> str:
    choices = [c for chunk in found for c in chunk["choices"] if c["index"] == choice]
    return "".join(c["delta"].get(key) or "" for c in choices)


def snapshot(name: str, body: bytes) -> None:
    """Compare with the file; changed on purpose by editing the file."""
    assert body.decode() == (SNAPSHOTS / name).read_text()


TEXT: list[list[AnyEvent]] = [
    [Reasoning(RID, 0, literal("Hm."), 1)],
    [Output(RID, 0, literal('Say "hi"\n'), 2), Output(RID, 0, b'"\\ud83d\\ude00"', 3)],
    [Finish(0, "stop"), Done("complete")],
]
TOOLS: list[list[AnyEvent]] = [
    [ToolCall(RID, 0, 0, "call_1", "weather", b'""', 1)],
    [ToolCall(RID, 0, 0, None, None, literal('{"city":'), 2), ToolCall(RID, 0, 0, None, None, literal('"Rome"}'), 3)],
    [ToolCall(RID, 0, 1, "call_2", "time", literal("{}"), 4), Finish(0, "tool_calls"), Done("tool_call")],
]
AGENTS: list[list[AnyEvent]] = [
    [Chosen(Mode.CONTEMPLATING, "several steps"), PhaseStarted(Phase.THINK)],
    [Agent(0, Phase.THINK, "started", 0), Agent(1, Phase.THINK, "started", 0)],
    [Agent(0, Phase.THINK, "done", 40, 1, 1)],
    [Agent(1, Phase.THINK, "stopped", 30, 1, 2), PhaseStarted(Phase.SYNTHESIS, 0, 1)],
    [Output(RID, 0, literal("42"), 1), Finish(0, "stop"), Done("agreement")],
]


@pytest.mark.parametrize(
    ("name", "asked", "batches"),
    [
        ("text.sse", {}, TEXT),
        ("text_with_usage.sse", {"include_usage": True}, TEXT),
        ("tools.sse", {}, TOOLS),
        ("agents_as_comments.sse", {}, AGENTS),
        ("agents_as_chunks.sse", {"progress": True, "include_usage": True}, AGENTS),
    ],
)
def test_snapshots(name: str, asked: dict[str, Any], batches: list[list[AnyEvent]]) -> None:
    body = stream(call(**asked), *batches)
    chunks(body)
    snapshot(name, body)


def test_without_usage_museway_rides_on_the_finish_chunk() -> None:
    found = chunks(stream(call(), *TEXT))
    assert all("usage" not in chunk for chunk in found)
    assert [chunk for chunk in found if "museway" in chunk] == [found[-1]]
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert found[-1]["museway"] == json.loads(msgspec.json.encode(MUSEWAY))


def test_with_usage_a_chunk_of_its_own() -> None:
    found = chunks(stream(call(include_usage=True), *TEXT))
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 19
    assert found[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 5}
    assert found[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert found[-1]["museway"]["cost_nano_usd"] == 12345


def test_a_count_that_is_being_reconciled_is_null() -> None:
    encoder = ChatStream(call(include_usage=True), created=1)
    assert chunks(encoder.end(None, MUSEWAY))[-1]["usage"] is None


def test_text_of_one_batch_is_one_chunk() -> None:
    batch: list[AnyEvent] = [Output(RID, 0, literal(text), i) for i, text in enumerate(["a", 'b"', "\\", "é"])]
    found = chunks(stream(call(), batch))
    assert len(found) == 3
    assert text_of(found) == 'ab"\\é'


def test_choices_keep_apart() -> None:
    batch: list[AnyEvent] = [
        Output(RID, 0, literal("a"), 1),
        Output(RID, 1, literal("x"), 1),
        Output(RID, 0, literal("b"), 2),
        Finish(1, "length"),
        Finish(0, "stop"),
    ]
    found = chunks(stream(call(n=2), batch))
    assert (text_of(found, 0), text_of(found, 1)) == ("ab", "x")
    reasons = [choice["finish_reason"] for chunk in found for choice in chunk["choices"] if choice["finish_reason"]]
    assert reasons == ["stop", "length"]
    assert ["museway" in chunk for chunk in found[-2:]] == [False, True]


def test_logprobs() -> None:
    batch: list[AnyEvent] = [Output(RID, 0, literal("a"), 1, LOGPROBS), Output(RID, 0, literal("b"), 2)]
    found = chunks(stream(call(logprobs=True), batch))
    assert found[1]["choices"][0]["logprobs"]["content"][0]["token"] == "a"
    assert found[2]["choices"][0]["logprobs"] is None


def test_comments_count_agents() -> None:
    body = stream(call(), *AGENTS)
    assert [line for line in body.decode().split("\n") if line.startswith(":")] == [": agents 1/2", ": agents 2/2"]


def test_nothing_for_the_client_is_nothing() -> None:
    encoder = ChatStream(call(), created=1)
    assert encoder.batch([]) == b""
    assert encoder.batch([Finish(0, "stop"), Done("complete")]) == b""
    assert encoder.keepalive() == b": keep-alive\n\n"


def test_an_error_ends_the_stream() -> None:
    error = ErrorBody(error=ErrorDetail(message="m", type="engine_error", code="engine_lost"), request_id="req_01")
    body = ChatStream(call(), created=1).error(error)
    assert body.endswith(b"\n\ndata: [DONE]\n\n")
    valid("ErrorResponse", json.loads(body.split(b"\n")[0].removeprefix(b"data: ")))


def _output(choice: int, text: str) -> Output:
    return Output(RID, choice, literal(text), 1)


def _reasoning(choice: int, text: str) -> Reasoning:
    return Reasoning(RID, choice, literal(text), 1)


def _tool_call(index: int, text: str) -> ToolCall:
    return ToolCall(RID, 0, index, "c", "f", literal(text), 1)


any_event: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(_output, st.integers(0, 1), st.text(max_size=5)),
    st.builds(_reasoning, st.integers(0, 1), st.text(max_size=5)),
    st.builds(_tool_call, st.integers(0, 2), st.text(max_size=5)),
    st.just(Agent(0, Phase.THINK, "done", 1)),
    st.just(PhaseStarted(Phase.THINK)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(any_event, max_size=12), st.booleans(), st.booleans(), st.data())
def test_stream_and_answer_say_the_same(sent: list[AnyEvent], usage: bool, progress: bool, data: st.DataObject) -> None:
    """However the events fall into batches."""
    cut = data.draw(st.integers(0, len(sent)))
    asked = call(n=2, include_usage=usage, progress=progress)
    found = chunks(stream(asked, sent[:cut], sent[cut:]))
    whole = answer(asked, sent)
    for index in (0, 1):
        message = whole["choices"][index]["message"]
        assert text_of(found, index) == (message["content"] or "")
        assert text_of(found, index, "reasoning_content") == message.get("reasoning_content", "")


def answer(asked: ChatCall, *batches: list[AnyEvent], usage: Usage | None = USAGE, museway: Museway = MUSEWAY) -> Any:
    encoder = ChatAnswer(asked, created=1_700_000_000)
    for batch in batches:
        encoder.add(batch)
    body = encoder.body(usage, museway)
    whole = json.loads(body)
    if usage is not None:
        valid("CreateChatCompletionResponse", whole)
        valid("ChatCompletion", whole)
    openai.types.chat.ChatCompletion.model_validate(whole, strict=True)
    shape = msgspec.json.decode(body, type=ChatCompletion)
    assert json.loads(msgspec.json.encode(shape)) == whole, "a key that no shape describes"
    return whole


def test_an_answer() -> None:
    whole = answer(call(), *TEXT)
    assert whole["id"] == "chatcmpl-01"
    assert whole["model"] == "muse-thinking"
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": 'Say "hi"\n\U0001f600',
                "refusal": None,
                "reasoning_content": "Hm.",
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert whole["museway"]["thinking"] == {"budget": 64, "used": 3}


def test_an_answer_of_tool_calls() -> None:
    message = answer(call(), *TOOLS)["choices"][0]["message"]
    assert message["content"] is None
    assert [c["id"] for c in message["tool_calls"]] == ["call_1", "call_2"]
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}


def test_an_empty_answer_has_empty_content() -> None:
    assert answer(call(), [Finish(0, "length")])["choices"][0]["message"]["content"] == ""


def test_an_answer_with_logprobs() -> None:
    batch: list[AnyEvent] = [Output(RID, 0, literal("a"), 1, LOGPROBS), Output(RID, 0, literal("b"), 2, LOGPROBS)]
    logprobs = answer(call(logprobs=True), batch)["choices"][0]["logprobs"]
    assert [token["token"] for token in logprobs["content"]] == ["a", "a"]
    assert logprobs["refusal"] is None


def test_an_answer_without_a_count() -> None:
    assert answer(call(), usage=None)["usage"] is None


def test_museway_in_contemplating_and_auto() -> None:
    agent = AgentUse(
        index=0,
        phase="think",
        prompt_tokens=5,
        cached_tokens=4,
        completion_tokens=40,
        finish_reason="complete",
        cost_nano_usd=9,
    )
    said = msgspec.structs.replace(
        MUSEWAY,
        agents=(agent,),
        thinking=msgspec.UNSET,
        auto=AutoChoice(mode=Mode.CONTEMPLATING, rule="several steps"),
    )
    museway = answer(call(), museway=said)["museway"]
    assert set(museway) == {
        "request_id",
        "mode",
        "price_version",
        "cost_nano_usd",
        "stop_reason",
        "client_prompt_tokens",
        "agents",
        "auto",
    }
