"""Short answers made comparable, and when a vote is decided."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_engine.modes.contemplating.vote import (
    Ballot,
    Number,
    are_equal,
    canon,
    canon_answer,
    lead,
    short_answer,
)


@pytest.mark.parametrize(
    "same",
    [
        [
            "1e3",
            "1000",
            "1,000.0",
            "1 000",
            "1×10^3",
            "1×10³",
            "**1000**",
            "1000.",
            "$1000$",
            "\\boxed{1000}",
            "x = 1000",
        ],
        ["50%", "50 %", "50 percent"],
        [".5", "0.5", "1/2", "0.50"],
        ["-3", "−3", "-3.0"],
        ["60", "60 seats", "60 apples"],
        ["$5", "5 dollars", "5 USD"],
        ["5 km", "5 kilometers", "5km"],
        ["(B)", "B", "b.", "B)"],
        ["yes", "Yes.", "Yes, it is"],
        ["Paris", "paris", '"Paris".', "*Paris*"],
        ['{"b":1,"a":[2]}', '{ "a": [2], "b": 1 }'],
    ],
)
def test_spellings_of_one_answer(same: list[str]) -> None:
    keys = [canon_answer(answer) for answer in same]
    assert None not in keys
    first = keys[0]
    assert first is not None
    assert all(key is not None and are_equal(first, key) for key in keys), list(zip(same, keys, strict=True))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("50%", ".5"),
        ("5 km", "5 m"),
        ("5", "-5"),
        ("$5", "5 euros"),
        ("A", "B"),
        ("yes", "no"),
        ("1,5", "15"),
        ("12:30", "12"),
    ],
)
def test_different_answers(one: str, other: str) -> None:
    first, second = canon_answer(one), canon_answer(other)
    assert first is None or second is None or not are_equal(first, second)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "n/a",
        "N/A.",
        "unknown",
        "?",
        "1/0",
        "a sentence that is much longer than six words are",
        "9" * 5000,
        "[" * 5000,
    ],
)
def test_what_does_not_vote(answer: str) -> None:
    key = canon_answer(answer)
    assert key is None or not isinstance(key, Number)
    assert answer == "1/0" or key is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I think.\nFINAL: 42", "42"),
        ("FINAL: 1\nno, wait\n**FINAL:** 42 ", "42 "),
        ("> final: 42", "42"),
        ("so \\boxed{3/4} it is", "3/4"),
        ("work\n#### 12", "12"),
        ("the final answer is 3", None),
        ("", None),
    ],
)
def test_where_the_short_answer_stands(text: str, answer: str | None) -> None:
    found = short_answer(text)
    assert (found and found.strip("* ")) == (answer and answer.strip())


def test_numbers_agree_within_a_millionth() -> None:
    one, close, far = (canon_answer(a) for a in ("3.14159265", "3.1415927", "3.1416"))
    assert one is not None
    assert close is not None
    assert far is not None
    assert are_equal(one, close)
    assert not are_equal(one, far)


@given(value=st.fractions(max_denominator=10_000), decimals=st.integers(0, 6))
def test_fractions_round_trip(value: Fraction, decimals: int) -> None:
    assert canon_answer(f"{value.numerator}/{value.denominator}") == Number(value, "")
    whole = value.numerator
    assert canon_answer(f"{whole:,}" + ("." + "0" * decimals if decimals else "")) == Number(Fraction(whole), "")


@given(st.text(max_size=200))
def test_any_text_is_read_without_a_failure(text: str) -> None:
    hash(canon(f"FINAL: {text}"))
    hash(canon(text))


@pytest.mark.parametrize(
    ("votes", "expected"),
    [((3, 0), 0.9375), ((4, 0), 0.96875), ((5, 1), 0.9375), ((4, 1), 0.890625), ((7, 2), 0.9453125)],
)
def test_the_lead_of_the_table(votes: tuple[int, int], expected: float) -> None:
    assert lead(*votes) == expected


@given(first=st.integers(0, 16), second=st.integers(0, 16))
def test_the_lead_is_a_probability_that_grows_with_votes(first: int, second: int) -> None:
    assert 0 < lead(first, second) < 1
    assert lead(first + 1, second) > lead(first, second) > lead(first, second + 1)
    assert lead(first, second) + lead(second, first) == pytest.approx(1)


@given(votes=st.lists(st.sampled_from(["42", "42.0", "43", "n/a", "yes"]), max_size=16), planned=st.integers(1, 16))
def test_a_decided_vote_is_never_overturned_by_those_left(votes: list[str], planned: int) -> None:
    """Where the rule of numbers stops the agents, no vote of those left could have changed the leader."""
    ballot = Ballot()
    for agent, vote in enumerate(votes):
        ballot.add(agent, canon_answer(vote))
    left = planned - len(votes)
    if left > 0 and ballot.is_decided(left, sure=2.0):
        leader = ballot.top
        for agent in range(left):
            ballot.add(100 + agent, canon_answer("43" if leader != Number(Fraction(43), "") else "42"))
        assert ballot.top == leader


def test_a_ballot() -> None:
    ballot = Ballot()
    for agent, vote in enumerate(["42", "n/a", "43", "42.0", "1e3", "42 "]):
        ballot.add(agent, canon_answer(vote))
    assert ballot.votes == (3, 1)
    assert ballot.winners == [0, 3, 5]
    assert not ballot.has_majority(6)
    assert ballot.has_majority(5)
    assert not ballot.is_decided(2, sure=0.93)
    assert ballot.is_decided(1, sure=0.93)
