"""Events from bytes that may be cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway import InvalidAnswerError
from museway._sse import EventReader


def read(*pieces: bytes) -> list[bytes]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b": comment\n\nevent: x\nid: 3\nretry: 5\ndata: a\ndata: b\n\n", [b"a\nb"]),
        (b"\n\n\ndata\n\n", [b""]),
        (b"database: no\n\ndata: yes\n\n", [b"yes"]),
        (b"data: never ended\n", []),
    ],
)
def test_events(body: bytes, events: list[bytes]) -> None:
    assert read(body) == events


BODY = "data: é\r\n\r\n: ping\r\rdata: {\r\ndata: }\r\n\r\nevent: x\ndata: [DONE]\r\n\r\n".encode()


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_cut_anywhere(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(BODY)]
    pieces = [BODY[a:b] for a, b in pairwise(places)]
    assert read(*pieces) == ["é".encode(), b"{\n}", b"[DONE]"]


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 100 + b"\n"])
def test_an_event_without_end_does_not_fill_memory(piece: bytes) -> None:
    reader = EventReader(max_event_bytes=1000)
    for _ in range(9):
        assert reader.feed(piece) == []
    with pytest.raises(InvalidAnswerError):
        reader.feed(piece * 2)
