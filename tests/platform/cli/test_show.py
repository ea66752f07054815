"""Results: for a person as a table, for a program as JSON."""

from __future__ import annotations

import json

import pytest
from msgspec import Struct

from museway_platform.cli.show import show


class Row(Struct, frozen=True):
    id: str
    tokens: int
    amount_nano_usd: int | None
    live: bool = True


_ROWS = [Row("a", 12_345, 1_500_000_000), Row("b" * 300, 0, None, live=False)]


def test_one_thing_as_json_is_itself(capsys: pytest.CaptureFixture[str]) -> None:
    show(_ROWS[0], as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "id": "a",
        "tokens": 12345,
        "amount_nano_usd": 1_500_000_000,
        "live": True,
    }


def test_several_as_json_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(_ROWS, as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and [row["tokens"] for row in json.loads(out)["data"]] == [12345, 0]


def test_none_at_all_is_an_empty_list_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    show([], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"data": []}
    show([], as_json=False, nothing="No keys.")
    assert capsys.readouterr().out == "No keys.\n"


def test_a_table_through_a_pipe_keeps_its_rows_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show(_ROWS, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["id", "tokens", "amount", "live"]
    assert lines[1].split() == ["a", "12,345", "$1.50", "yes"]
    assert lines[2].split() == ["b" * 300, "0", "–", "no"]


def test_one_thing_is_told_field_by_field(capsys: pytest.CaptureFixture[str]) -> None:
    show(_ROWS[1], as_json=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "tokens           0",
        "amount           –",
        "live             no",
    ]
