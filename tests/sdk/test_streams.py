"""Streams: typed events, errors inside, connections that break, connections that are always closed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from doubles.scripted_server import PATIENCE_S, Scripted, ScriptedServer, answer, refusal, stream
from museway import (
    AgentProgress,
    AsyncMuseway,
    CapReachedError,
    Cost,
    Finished,
    InvalidAnswerError,
    InvalidRequestError,
    ModeChosen,
    Museway,
    MusewayError,
    OutputDelta,
    PhaseStarted,
    ReasoningDelta,
    ServerError,
    StreamInterruptedError,
    StreamRestartedError,
    ToolCallDelta,
    UsageReport,
)

DONE = b"data: [DONE]\n\n"
MUSEWAY = {
    "request_id": "req_1",
    "mode": "thinking",
    "price_version": 3,
    "cost_nano_usd": 99,
    "stop_reason": "complete",
    "client_prompt_tokens": 5,
    "thinking": {"budget": 64, "used": 3},
}
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "chatcmpl-1", "choices": choices, **fields}).encode()


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> bytes:
    return chunk({"index": index, "delta": fields, "finish_reason": finish}, usage=None)


def progress(**fields: Any) -> bytes:
    return chunk(museway={"progress": fields})


END = delta(finish="stop") + chunk(usage=USAGE, museway=MUSEWAY) + DONE


def test_every_kind_of_event(server: ScriptedServer, client: Museway) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    server.script(
        stream(
            delta(role="assistant", content="", refusal=None),
            progress(type="chosen", mode="thinking", rule="maths"),
            progress(type="phase", phase="think", round=0, drafts=0),
            progress(type="agent", index=1, phase="think", state="done", tokens=40, agree=1, finished=2),
            progress(type="a kind of tomorrow", anything=[]),
            b": agents 1/2\n\n",
            delta(reasoning_content="Hm."),
            delta(content="4"),
            delta(index=1, content="another choice"),
            delta(content="2"),
            delta(tool_calls=[call]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
            END,
        )
    )
    with client.stream("x") as events:
        seen = list(events)
    reply = events.reply
    assert seen[:-2] == [
        ModeChosen("thinking", "maths"),
        PhaseStarted("think", 0, 0),
        AgentProgress(1, "think", "done", 40, 1, 2),
        ReasoningDelta("Hm."),
        OutputDelta("4"),
        OutputDelta("2"),
        ToolCallDelta(0, "c1", "f", ""),
        ToolCallDelta(0, None, None, "{}"),
    ]
    report, finished = seen[-2:]
    assert isinstance(report, UsageReport) and (report.usage, report.cost) == (reply.usage, Cost(99))
    assert finished == Finished(reply)
    assert (reply.text, reply.reasoning, reply.mode, reply.request_id) == ("42", "Hm.", "thinking", "req_1")
    assert reply.usage is not None and reply.usage.total_tokens == 7
    assert reply.tool_calls[0].arguments == "{}"
    assert reply.museway is not None and reply.museway.thinking is not None


def test_what_a_stream_asks_for(server: ScriptedServer, client: Museway) -> None:
    server.script(stream(DONE))
    with client.stream("x", mode="auto") as events:
        list(events)
    body = server.heard[0].json
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["museway_progress"] is True
    assert server.heard[0].headers["accept"] == "text/event-stream"


def test_only_text(server: ScriptedServer, client: Museway) -> None:
    server.script(stream(delta(reasoning_content="no"), delta(content="a"), delta(content="b"), END))
    with client.stream("x") as events:
        assert list(events.text()) == ["a", "b"]
    assert events.reply.text == "ab"


def test_a_stream_that_breaks_off_says_what_had_come(server: ScriptedServer, client: Museway) -> None:
    for broken in (stream(delta(content="a"), cut=True), stream(delta(content="a"))):
        server.script(broken)
        seen: list[object] = []
        with client.stream("x") as events, pytest.raises(StreamInterruptedError) as caught:
            seen.extend(events)
        assert seen == [OutputDelta("a")]
        assert caught.value.partial.text == "a"
        assert caught.value.partial.usage is None
        assert caught.value.request_id == "req_9"
        with pytest.raises(MusewayError):
            _ = events.reply
    assert len(server.heard) == 2, "a stream that began is never sent again"


def event(number: int, text: str) -> bytes:
    return b"id: req_9:%d\n" % number + delta(content=text)


class TestResuming:
    """Where events have ids, a stream that is cut goes on."""

    def test_after_the_last_whole_event(self, server: ScriptedServer, client: Museway) -> None:
        half = event(3, "c")[:-9]
        server.script(
            stream(event(1, "a"), event(2, "b"), half, cut=True),
            Scripted(refuse=True),
            refusal(503, "engine_overloaded", retry_after="0"),
            stream(event(3, "c"), cut=True),
            stream(event(4, "d"), b"id: req_9:5\n" + END),
        )
        with client.stream("x") as events:
            assert "".join(events.text()) == "abcd"
        assert events.reply.text == "abcd"
        said = [heard.headers.get("last-event-id") for heard in server.heard]
        assert said == [None, "req_9:2", "req_9:2", "req_9:2", "req_9:3"]
        assert len({heard.headers["idempotency-key"] for heard in server.heard}) == 1
        assert len({heard.body for heard in server.heard}) == 1

    def test_before_the_first_event(self, server: ScriptedServer, client: Museway) -> None:
        server.script(stream(event(1, "a")[:5], cut=True), stream(event(1, "a"), b"id: req_9:2\n" + END))
        with client.stream("x") as events:
            assert "".join(events.text()) == "a"
        assert "last-event-id" not in server.heard[1].headers

    def test_tries_without_a_new_event_end(self, server: ScriptedServer, client: Museway) -> None:
        server.script(stream(event(1, "a"), cut=True), *[stream(cut=True)] * 2, answer({"request_id": "req_9"}))
        with pytest.raises(StreamInterruptedError) as caught, client.stream("x") as events:
            list(events)
        assert caught.value.partial.text == "a"

    def test_nothing_is_spliced(self, server: ScriptedServer, client: Museway) -> None:
        server.script(stream(event(1, "a"), cut=True), refusal(409, "stream_restarted", "invalid_request_error"))
        with client.stream("x") as events, pytest.raises(StreamRestartedError):
            list(events)
        assert events.partial.text == "a"
        assert len(server.heard) == 2

    def test_leaving_early_cancels(self, server: ScriptedServer, client: Museway) -> None:
        server.script(stream(event(1, "a"), hang=True), refusal(404, "not_found"))
        with client.stream("x") as events:
            for _ in events:
                break
        events.close()
        assert [heard.path for heard in server.heard[1:]] == ["/v1/requests/req_9/cancel"]

    @pytest.mark.anyio
    async def test_on_an_event_loop(self, server: ScriptedServer, async_client: AsyncMuseway) -> None:
        server.script(
            stream(event(1, "a"), cut=True),
            stream(event(2, "b"), hang=True),
            answer({"request_id": "req_9", "status": "cancelled"}),
        )
        async with async_client.stream("x") as events:
            text = ""
            async for piece in events.text():
                text += piece
                if text == "ab":
                    break
        assert server.heard[1].headers["last-event-id"] == "req_9:1"
        assert server.heard[2].path == "/v1/requests/req_9/cancel"


def error_event(code: str, kind: str) -> bytes:
    error = {"message": "m", "type": kind, "param": None, "code": code}
    return b"data: %b\n\n" % json.dumps({"error": error, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("code", "kind", "raised"),
    [
        ("engine_lost", "engine_error", ServerError),
        ("cap_reached", "billing_error", CapReachedError),
        ("odd", "invalid_request_error", InvalidRequestError),
    ],
)
def test_an_error_inside_a_stream(
    code: str, kind: str, raised: type[MusewayError], server: ScriptedServer, client: Museway
) -> None:
    server.script(stream(delta(content="a"), error_event(code, kind), DONE))
    with client.stream("x") as events, pytest.raises(raised) as caught:
        list(events)
    assert caught.value.request_id == "req_1"
    assert events.partial.text == "a"


def test_a_chunk_that_is_no_chunk(server: ScriptedServer, client: Museway) -> None:
    for data in (b"data: {\n\n", b"data: []\n\n", b'data: {"choices":[{"delta":3}]}\n\n', b"data: \xff\n\n"):
        server.script(stream(data, DONE))
        with client.stream("x") as events, pytest.raises(InvalidAnswerError):
            list(events)


def test_json_where_a_stream_was_asked_for(server: ScriptedServer, client: Museway) -> None:
    server.script(answer({}))
    with pytest.raises(InvalidAnswerError), client.stream("x"):
        pass


def test_a_refusal_before_the_stream(server: ScriptedServer, client: Museway) -> None:
    server.script(refusal(402, "cap_reached", "billing_error"))
    with pytest.raises(CapReachedError), client.stream("x"):
        pass


def test_leaving_early_closes_the_connection(server: ScriptedServer, client: Museway) -> None:
    server.script(stream(delta(content="a"), hang=True))
    with client.stream("x") as events:
        for _ in events:
            break
    assert server.gone.wait(PATIENCE_S)


def test_an_error_of_the_reader_closes_the_connection(server: ScriptedServer, client: Museway) -> None:
    server.script(stream(delta(content="a"), hang=True))
    with pytest.raises(ZeroDivisionError), client.stream("x") as events:
        _ = [1 // 0 for _ in events]
    assert server.gone.wait(PATIENCE_S)


def test_iterating_without_entering(client: Museway) -> None:
    with pytest.raises(MusewayError, match="with"):
        iter(client.stream("x"))


def test_closing_twice(server: ScriptedServer, client: Museway) -> None:
    server.script(stream(delta(content="a"), END))
    with client.stream("x") as events:
        list(events)
        events.close()
        events.close()
    assert list(events) == []
    assert events.reply.text == "a"


@pytest.mark.anyio
class TestOnAnEventLoop:
    async def test_events(self, server: ScriptedServer, async_client: AsyncMuseway) -> None:
        server.script(stream(delta(content="a"), delta(content="b"), END))
        async with async_client.stream("x") as events:
            assert [text async for text in events.text()] == ["a", "b"]
        assert events.reply.cost == Cost(99)

    async def test_breaks_off(self, server: ScriptedServer, async_client: AsyncMuseway) -> None:
        server.script(stream(delta(content="a"), cut=True))
        async with async_client.stream("x") as events:
            with pytest.raises(StreamInterruptedError) as caught:
                [event async for event in events]
        assert caught.value.partial.text == "a"

    async def test_leaving_early_closes_the_connection(
        self, server: ScriptedServer, async_client: AsyncMuseway
    ) -> None:
        server.script(stream(delta(content="a"), hang=True))
        async with async_client.stream("x") as events:
            async for _ in events:
                break
        assert server.gone.wait(PATIENCE_S)

    async def test_a_refusal_before_the_stream(self, server: ScriptedServer, async_client: AsyncMuseway) -> None:
        server.script(refusal(402, "cap_reached", "billing_error"))
        with pytest.raises(CapReachedError):
            async with async_client.stream("x"):
                pass
