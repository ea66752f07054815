"""Events out of bytes, wherever reads are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_engine.worker import sse
from museway_engine.worker.sse import EventSplitter, EventTooLong

_WIRE = b'data: {"a":"x\\n\\ny"}\n\n: ping\n\ndata:{"b":1}\n\nevent: e\ndata: c\ndata: d\n\n\ndata: [DONE]\n\n'
_PAYLOADS = [b'{"a":"x\\n\\ny"}', b"", b'{"b":1}', b"c\nd", b"[DONE]"]


@given(cuts=st.lists(st.integers(0, len(_WIRE)), max_size=12))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(_WIRE)]
    splitter = EventSplitter()
    seen = [p for a, b in itertools.pairwise(edges) for p in splitter.feed(_WIRE[a:b])]
    assert seen == _PAYLOADS


def test_carriage_returns_cut_anywhere() -> None:
    wire = _WIRE.replace(b"\n", b"\r\n")
    splitter = EventSplitter()
    assert [p for i in range(len(wire)) for p in splitter.feed(wire[i : i + 1])] == _PAYLOADS


def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_EVENT_BYTES_MAX", 1000)
    splitter = EventSplitter()
    assert splitter.feed(b"x" * 900) == []
    with pytest.raises(EventTooLong):
        splitter.feed(b"x" * 200)
