"""A close marker never shows, wherever it is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from museway_engine.modes.holdback import HoldBack

_MARKERS = ["</think>", "\nFinal answer:", "aab", ""]


def _shown(hold: HoldBack, text: str, cuts: list[int]) -> str:
    edges = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return "".join(hold.feed(text[a:b]) for a, b in itertools.pairwise(edges))


@given(
    marker=st.sampled_from(_MARKERS[:3]),
    before=st.text("ab</thinkFl \n", max_size=20),
    after=st.text(max_size=5),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_nothing_of_the_marker_and_nothing_after_it(marker: str, before: str, after: str, cuts: list[int]) -> None:
    text = before + marker + after
    hold = HoldBack(marker)
    shown = _shown(hold, text, cuts)
    assert hold.found
    assert shown == text[: text.index(marker)].lstrip()
    assert hold.end() == ""


@given(
    marker=st.sampled_from(_MARKERS),
    text=st.text("ab</thinkFl \n", max_size=40),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_without_the_marker_everything_comes_out(marker: str, text: str, cuts: list[int]) -> None:
    if marker and marker in text:
        return
    hold = HoldBack(marker)
    assert _shown(hold, text, cuts) + hold.end() == text.lstrip()
    assert not hold.found


@given(
    marker=st.sampled_from(_MARKERS), pieces=st.lists(st.text("ab</thinkFl \n", min_size=1, max_size=9), max_size=12)
)
def test_never_more_pieces_come_out_than_went_in(marker: str, pieces: list[str]) -> None:
    """Whoever counts events finds no more of them than tokens, wherever a stream is cut."""
    hold = HoldBack(marker)
    out = 0
    for number, piece in enumerate(pieces, 1):
        out += bool(hold.feed(piece))
        assert out <= number
    assert out + bool(hold.end()) <= len(pieces)


def test_no_more_is_held_than_needed() -> None:
    hold = HoldBack("</think>")
    assert hold.feed("So 3 < 4") == "So 3 < 4"
    assert hold.feed(" and ") == " and "
    assert hold.feed("so </") == ""
    assert hold.feed("b>") == "so </b>"
