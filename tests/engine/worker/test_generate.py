"""`/generate` streams: incremental and cumulative give the same pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from museway_engine.allowance import Counts
from museway_engine.worker.generate import GenerateStream, Piece
from museway_engine.worker.stream import Malformed

_TOKENS = [("The", [504]), (" cap", [3575]), ("", [9]), ("é", [10]), ("", [2])]


def _event(text: str, ids: list[int], n: int | None, finish: dict[str, Any] | None = None) -> bytes:
    meta: dict[str, Any] = {"id": "r", "prompt_tokens": 37, "cached_tokens": 36, "finish_reason": finish}
    if n is not None:
        meta["completion_tokens"] = n
    return f"data: {json.dumps({'text': text, 'output_ids': ids, 'meta_info': meta})}\n\n".encode()


def _wire(*, cumulative: bool, counted: bool = True) -> bytes:
    events: list[bytes] = []
    for place, (text, ids) in enumerate(_TOKENS):
        before = _TOKENS[: place + 1] if cumulative else [(text, ids)]
        finish = {"type": "stop", "matched": 2} if place == len(_TOKENS) - 1 else None
        whole = "".join(t for t, _ in before)
        events.append(_event(whole, [i for _, more in before for i in more], place + 1 if counted else None, finish))
    return b"".join([*events, b"data: [DONE]\n\n"])


@pytest.mark.parametrize("cumulative", [False, True])
@pytest.mark.parametrize("step", [1, 50, 10_000])
def test_both_kinds_of_stream(cumulative: bool, step: int) -> None:
    wire, stream = _wire(cumulative=cumulative), GenerateStream()
    pieces = [p for i in range(0, len(wire), step) for p in stream.feed(wire[i : i + step])]
    assert pieces == [Piece(text, tuple(ids), n) for n, (text, ids) in enumerate(_TOKENS, 1)]
    tally = stream.tally
    assert (tally.finish, tally.matched, tally.is_final, tally.is_over) == ("stop", 2, True, True)
    assert tally.counts == Counts(prompt=37, cached=36, reasoning=0, output=5)


@pytest.mark.parametrize("cumulative", [False, True])
def test_without_counts_they_stay_unknown(cumulative: bool) -> None:
    stream = GenerateStream()
    pieces = stream.feed(_wire(cumulative=cumulative, counted=False))
    assert [(p.text, p.ids, p.n) for p in pieces] == [(text, tuple(ids), -1) for text, ids in _TOKENS]
    assert stream.tally.counts is None
    assert stream.tally.spoke
    assert not stream.tally.is_final


def test_an_abort_tells_its_count() -> None:
    stream = GenerateStream()
    assert stream.feed(_event("x", [7], 1) + _event("", [], 2, {"type": "abort", "message": "Aborted"})) != []
    assert (stream.tally.finish, stream.tally.is_final) == ("abort", True)
    assert stream.tally.counts == Counts(37, 36, 0, 2)


def test_a_full_queue() -> None:
    stream = GenerateStream()
    finish = {"type": "abort", "status_code": 503, "message": "The request queue is full."}
    assert stream.feed(_event("", [], 0, finish)) == []
    assert stream.tally.failure is not None
    assert stream.tally.failure.status == 503


def test_an_error_event() -> None:
    stream = GenerateStream()
    error = {"error": {"message": "The input (11100 tokens) is longer", "code": 400}}
    assert stream.feed(f"data: {json.dumps(error)}\n\ndata: [DONE]\n\n".encode()) == []
    assert stream.tally.failure is not None
    assert (stream.tally.failure.status, stream.tally.is_final) == (400, False)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(Malformed):
        GenerateStream().feed(b"data: {]\n\n")
