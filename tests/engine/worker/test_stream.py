"""Chat answers of a worker → events: every kind of chunk, however it is spelled or cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_engine.allowance import Counts
from museway_engine.events import UNKNOWN, Output, Reasoning, ToolCall, text
from museway_engine.worker.stream import ChatEvent, ChatStream, Malformed, WholeAnswer

_RID = "req_1.a00000000"


def _usage(completion: int, *, prompt: int = 37, cached: int = 5, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "reasoning_tokens": reasoning,
        "completion_tokens_details": None,
    }


def _chunk(delta: dict[str, Any], usage: dict[str, Any] | None = None, **choice: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": _RID,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "muse",
        "choices": [
            {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "matched_stop": None, **choice}
        ],
    }
    return body if usage is None else {**body, "usage": usage}


def _last(usage: dict[str, Any]) -> dict[str, Any]:
    return {"id": _RID, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def _wire(*chunks: dict[str, Any], spaces: bool = False, done: bool = True) -> bytes:
    separators = (", ", ": ") if spaces else (",", ":")
    events = [json.dumps(chunk, separators=separators, ensure_ascii=spaces) for chunk in chunks]
    return b"".join(f"data: {event}\n\n".encode() for event in (*events, *(["[DONE]"] if done else [])))


_ROLE = _chunk({"role": "assistant", "content": "", "reasoning_content": None})
_ANSWER = (
    _ROLE,
    _chunk({"content": 'He said "é\n🙂"', "reasoning_content": None}, _usage(1)),
    _chunk({"content": ' , "usage":{"completion_tokens":99}', "reasoning_content": None}, _usage(2)),
    _chunk({"reasoning_content": None}, finish_reason="stop", matched_stop=2),
    _last(_usage(3)),
)


def _read(wire: bytes, *, step: int | None = None) -> tuple[ChatStream, list[ChatEvent]]:
    stream = ChatStream(_RID, 0)
    step = step or len(wire)
    events = [e for i in range(0, len(wire), step) for e in stream.feed(wire[i : i + step])]
    return stream, events + stream.end()


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("step", [1, 2, 7, 100, None])
def test_an_answer_however_it_is_spelled_and_cut(spaces: bool, step: int | None) -> None:
    stream, events = _read(_wire(*_ANSWER, spaces=spaces), step=step)
    outputs = [e for e in events if isinstance(e, Output)]
    assert len(outputs) == len(events) == 2
    assert [(text(e.json), e.n, e.rid, e.choice) for e in outputs] == [
        ('He said "é\n🙂"', 1, _RID, 0),
        (' , "usage":{"completion_tokens":99}', 2, _RID, 0),
    ]
    tally = stream.tally
    assert tally.counts == Counts(prompt=37, cached=5, reasoning=0, output=3)
    assert (tally.finish, tally.is_final, tally.is_over, tally.failure) == ("stop", True, True, None)


def test_several_events_in_one_read_are_one_batch() -> None:
    stream = ChatStream(_RID, 0)
    assert len(stream.feed(_wire(*_ANSWER))) == 2


def test_the_literal_is_the_workers_own() -> None:
    wire = 'data: {"choices":[{"delta":{"content":"caf\\u00e9 \\/"}}],"usage":{"completion_tokens":1}}\n\n'
    _, events = _read(wire.encode())
    assert events == [Output(_RID, 0, b'"caf\\u00e9 \\/"', 1)]


def test_reasoning_is_told_apart() -> None:
    stream, events = _read(
        _wire(
            _chunk({"reasoning_content": "hm", "content": None}, _usage(1, reasoning=1)),
            _chunk({"reasoning_content": None, "content": "yes"}, _usage(5, reasoning=4)),
            _chunk({"reasoning_content": None}, finish_reason="length"),
            _last(_usage(6, reasoning=4)),
        )
    )
    assert events == [Reasoning(_RID, 0, b'"hm"', 1), Output(_RID, 0, b'"yes"', 5)]
    assert stream.tally.counts == Counts(prompt=37, cached=5, reasoning=4, output=2)
    assert stream.tally.finish == "length"


def test_reasoning_and_content_in_one_chunk_both_come_out() -> None:
    _, events = _read(_wire(_chunk({"reasoning_content": "so", "content": "yes"}, _usage(3))))
    assert events == [Reasoning(_RID, 0, b'"so"', 3), Output(_RID, 0, b'"yes"', 3)]


def _call(index: int, call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": None, "content": None, "tool_calls": [{"id": call_id, "index": index, "function": function}]}


def test_tool_calls() -> None:
    stream, events = _read(
        _wire(
            _ROLE,
            _chunk(_call(0, "call_1", "f", ""), _usage(18)),
            _chunk(_call(0, None, None, '{"city": "'), _usage(26)),
            _chunk(_call(1, "call_2", "g", ""), _usage(30)),
            _chunk({}, finish_reason="tool_calls"),
            _last(_usage(40)),
        )
    )
    assert events == [
        ToolCall(_RID, 0, 0, "call_1", "f", b'""', 18),
        ToolCall(_RID, 0, 0, None, None, rb'"{\"city\": \""', 26),
        ToolCall(_RID, 0, 1, "call_2", "g", b'""', 30),
    ]
    assert stream.tally.finish == "tool_calls"


def test_log_probabilities_go_along_even_without_text() -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.5}]}
    _, events = _read(
        _wire(
            _chunk({"content": "x"}, _usage(1), logprobs=logprobs),
            _chunk({"content": ""}, _usage(2), logprobs=logprobs),
        )
    )
    outputs = [e for e in events if isinstance(e, Output)]
    assert [text(e.json) for e in outputs] == ["x", ""]
    assert all(e.logprobs is not None and json.loads(bytes(e.logprobs)) == logprobs for e in outputs)


def test_a_missing_count_is_unknown_never_zero() -> None:
    stream, events = _read(_wire(_chunk({"content": "a"}), _chunk({}, finish_reason="stop")))
    assert events == [Output(_RID, 0, b'"a"', UNKNOWN)]
    assert stream.tally.counts is None
    assert stream.tally.spoke
    assert not stream.tally.is_final


def test_no_cache_report_is_nothing_cached() -> None:
    usage = {**_usage(1), "prompt_tokens_details": None}
    stream, _ = _read(_wire(_chunk({"content": "a"}, usage), _last(usage)))
    assert stream.tally.counts == Counts(prompt=37, cached=0, reasoning=0, output=1)


def test_a_full_queue_inside_a_stream() -> None:
    error = {"error": {"object": "error", "message": "The request queue is full.", "code": 503}}
    stream, events = _read(_wire(error, _last(_usage(0, prompt=0, cached=0))))
    assert events == []
    assert stream.tally.failure is not None
    assert stream.tally.failure.status == 503
    assert not stream.tally.is_final


def test_an_abort() -> None:
    stream, _ = _read(_wire(_chunk({"content": "a"}, _usage(1)), _chunk({}, finish_reason="abort"), _last(_usage(2))))
    assert stream.tally.finish == "abort"
    assert stream.tally.is_final
    assert stream.tally.counts == Counts(37, 5, 0, 2)


@pytest.mark.parametrize(
    "event", ["{", "null", '{"choices":[{"delta":{"content":"a}}]}', '{"usage":{"completion_tokens":"x"}}']
)
def test_what_is_no_answer_is_refused(event: str) -> None:
    with pytest.raises(Malformed):
        ChatStream(_RID, 0).feed(f"data: {event}\n\n".encode())


@given(content=st.text(max_size=40), n=st.integers(0, 10**6), ascii_only=st.booleans())
def test_any_text_comes_through(content: str, n: int, ascii_only: bool) -> None:
    chunk = _chunk({"content": content}, _usage(n))
    wire = f"data: {json.dumps(chunk, ensure_ascii=ascii_only)}\n\n".encode("utf-8", "surrogatepass")
    try:
        wire.decode()
    except UnicodeDecodeError:
        return
    _, events = _read(wire, step=13)
    assert [(text(e.json), e.n) for e in events if isinstance(e, Output)] == ([(content, n)] if content else [])


def _whole(message: dict[str, Any], usage: dict[str, Any] | None, finish: str = "stop") -> WholeAnswer:
    answer = WholeAnswer(_RID, 0)
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}], "usage": usage}
    wire = json.dumps(body).encode()
    assert answer.feed(wire[:20]) == answer.feed(wire[20:]) == []
    return answer


def test_a_whole_answer() -> None:
    answer = _whole({"role": "assistant", "content": "Hi", "reasoning_content": "hm"}, _usage(9, reasoning=4))
    assert answer.end() == [Reasoning(_RID, 0, b'"hm"', 4), Output(_RID, 0, b'"Hi"', 9)]
    assert answer.tally.counts == Counts(37, 5, 4, 5)
    assert answer.tally.is_final


def test_a_whole_answer_of_tool_calls() -> None:
    calls = [{"id": f"call_{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(2)]
    answer = _whole({"content": None, "tool_calls": calls}, _usage(9), "tool_calls")
    assert answer.end() == [ToolCall(_RID, 0, i, f"call_{i}", "f", b'"{}"', 9) for i in range(2)]


def test_a_whole_answer_without_counts() -> None:
    answer = _whole({"content": "Hi"}, None)
    assert answer.end() == [Output(_RID, 0, b'"Hi"', UNKNOWN)]
    assert answer.tally.counts is None


def test_half_an_answer_is_refused() -> None:
    answer = WholeAnswer(_RID, 0)
    answer.feed(b'{"choices":[{"mess')
    with pytest.raises(Malformed):
        answer.end()
