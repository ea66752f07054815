"""The judge names each way in which book, records, answers and balance can disagree, and nothing where they agree."""

from typing import Any

import pytest
from msgspec import structs

from bench.caller import Delivered
from bench.verdict import Balance, Record, compare, compare_balance, compare_delivered
from doubles.fake_worker.book import Entry

_RID = "req_01ARZ3NDEKTSV4RRFFQ69G5FAV.a000000001"
_ENTRY = Entry(
    rid=_RID, route="chat", stream=True, salt="s", prompt=40, cached=30, completion=12, usage_sent=True, finish="stop"
)
_RECORD = Record(
    id="use_1",
    request_id="req_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    rid=_RID,
    mode="instant",
    phase="answer",
    input=10,
    cached_input=30,
    measured_input=10,
    measured_cached=30,
    reasoning=2,
    output=10,
    unbilled=0,
    state="complete",
    amount_nano_usd=700,
    credited_nano_usd=0,
)
_DELIVERED = Delivered(
    form="stream",
    status=200,
    request_id="req_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    output_events=9,
    reasoning_events=2,
    museway={"cost_nano_usd": 700},
    usage={"prompt_tokens": 40, "completion_tokens": 12},
    finish="stop",
)


def _whats(entry: Entry, *records: Record) -> list[str]:
    return [difference.what for difference in compare([entry], records)]


def test_what_agrees_is_silent() -> None:
    assert _whats(_ENTRY, _RECORD) == []
    assert compare_delivered([_DELIVERED], [_RECORD]) == []
    own_probe = structs.replace(_ENTRY, rid="sys_probe")
    assert compare([own_probe], []) == []


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"output": 11}, "13 tokens billed, 12 made"),
        ({"output": 9}, "2 reasoning + 9 output + 0 unbilled, 12 made"),
        ({"unbilled": None}, "unbilled is unknown though the worker reported 12"),
        ({"measured_input": 11}, "11 + 30 prompt tokens measured, 40 read"),
        ({"measured_input": 11, "measured_cached": 29}, "29 cached tokens measured, 30 cached"),
    ],
)
def test_a_record_that_differs_from_the_book(changes: dict[str, Any], what: str) -> None:
    assert what in _whats(_ENTRY, structs.replace(_RECORD, **changes))


def test_a_call_stands_in_exactly_one_record() -> None:
    assert _whats(_ENTRY) == ["stands in 0 records, not in one"]
    assert _whats(_ENTRY, _RECORD, structs.replace(_RECORD, id="use_2")) == ["stands in 2 records, not in one"]


def test_a_record_without_a_call_must_be_empty() -> None:
    other = structs.replace(_RECORD, rid=_RID[:-1] + "2")
    assert [d.what for d in compare([], [other])] == ["is billed and the worker never ran it"]
    empty = structs.replace(
        other, input=0, cached_input=0, measured_input=0, measured_cached=0, reasoning=0, output=0, amount_nano_usd=0
    )
    assert compare([], [empty]) == []


def test_what_nobody_saw_may_stay_unknown_but_not_be_billed_beyond_what_was_made() -> None:
    entry = structs.replace(_ENTRY, usage_sent=False, finish="abort")
    unseen = structs.replace(_RECORD, state="interrupted", unbilled=None, output=8)
    assert _whats(entry, unseen) == []
    assert _whats(entry, structs.replace(unseen, output=11)) == ["13 tokens billed, 12 made"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"output_events": 11}, "stream: 11 tokens of output delivered, 10 billed"),
        ({"reasoning_events": 3}, "stream: 3 tokens of reasoning delivered, 2 billed"),
        ({"museway": {"cost_nano_usd": 701}}, "stream: the answer says 701 nano-USD, its records 700"),
        ({"museway": None}, "stream: the answer tells no cost"),
        (
            {"usage": {"prompt_tokens": 40, "completion_tokens": 13}},
            "stream: the answer says 13 tokens made, its records 12",
        ),
        (
            {"usage": {"prompt_tokens": 41, "completion_tokens": 12}},
            "stream: the answer says 41 tokens of input, its records 40",
        ),
        ({"problem": "the stream ended without [DONE]"}, "the stream ended without [DONE]"),
    ],
)
def test_an_answer_that_differs_from_its_records(changes: dict[str, Any], what: str) -> None:
    assert [d.what for d in compare_delivered([structs.replace(_DELIVERED, **changes)], [_RECORD])] == [what]


def test_a_client_that_stayed_pays_for_every_token() -> None:
    one_unbilled = structs.replace(_RECORD, output=9, unbilled=1)
    stayed = structs.replace(_DELIVERED, usage=None)
    whats = [d.what for d in compare_delivered([stayed], [one_unbilled])]
    assert whats == ["stream: 1 tokens unbilled though the client stayed to the end"]
    assert compare_delivered([structs.replace(stayed, left=True)], [one_unbilled]) == []


def test_a_client_that_left_is_billed_at_least_what_it_got() -> None:
    left = structs.replace(_DELIVERED, left=True, museway=None, usage=None)
    assert compare_delivered([left], [_RECORD]) == []
    assert compare_delivered([left], [structs.replace(_RECORD, output=8, unbilled=2)]) != []


def test_the_balance_falls_by_what_was_charged() -> None:
    before = Balance(available_nano_usd=10_000, held_nano_usd=0)
    after = Balance(available_nano_usd=9_400, held_nano_usd=0)
    credited = structs.replace(_RECORD, credited_nano_usd=100)
    assert compare_balance(before, after, [credited]) == []
    assert [d.what for d in compare_balance(before, after, [_RECORD])] == ["fell by 600 nano-USD, the records say 700"]
    held = structs.replace(after, held_nano_usd=5)
    assert [d.what for d in compare_balance(before, held, [credited])] == ["5 nano-USD still held, 0 before"]
