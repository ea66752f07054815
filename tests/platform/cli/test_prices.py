"""The price book by command: versions follow each other and never move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Ran

Museway = Callable[..., Ran]


@pytest.fixture
def acme(museway: Museway) -> str:
    return museway("orgs create Acme --json").json["id"]


def _instant(museway: Museway, *scope: str) -> dict[str, Any]:
    return next(row for row in museway("prices show --json", *scope).rows if row["mode"] == "instant")


def test_a_new_book_has_the_default_prices(museway: Museway) -> None:
    row = _instant(museway)
    assert row["version"] == 1
    assert (row["input_nano_usd_per_mtok"], row["output_nano_usd_per_mtok"]) == (250_000_000, 1_000_000_000)


def test_a_price_is_followed_and_classes_left_out_stay(museway: Museway) -> None:
    before = _instant(museway)
    announced = museway("prices set --mode instant --output 0.9 --json").rows
    assert [row["version"] for row in announced] == [2]
    after = _instant(museway)
    assert after["version"] == 2 and after["output_nano_usd_per_mtok"] == 900_000_000
    assert after["input_nano_usd_per_mtok"] == before["input_nano_usd_per_mtok"]
    assert [row["version"] for row in museway("prices list --json").rows] == [1, 1, 1, 2]


def test_one_organizations_price_is_its_own_and_ends(museway: Museway, acme: str) -> None:
    museway(f"prices set --mode instant --org {acme} --input 0.2")
    assert _instant(museway, "--org", acme)["input_nano_usd_per_mtok"] == 200_000_000
    assert _instant(museway)["input_nano_usd_per_mtok"] == 250_000_000
    museway(f"prices set --mode instant --org {acme} --end-override")
    assert _instant(museway, "--org", acme)["version"] == 1


def test_a_later_price_is_not_in_force_yet(museway: Museway) -> None:
    museway("prices set --mode instant --output 2 --from 2999-01-01")
    assert _instant(museway)["output_nano_usd_per_mtok"] == 1_000_000_000
    assert _instant(museway, "--at", "2999-01-02")["output_nano_usd_per_mtok"] == 2_000_000_000


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("prices set --mode instant", 2, "give at least one price"),
        ("prices set --mode instant --end-override", 2, "--org with --end-override"),
        ("prices set --mode instant --output 1 --from 2020-01-01", 1, "is in the past"),
        ("prices set --mode instant --cached-input 9", 1, "above input"),
        ("prices set --mode auto --output 1", 2, "invalid choice: 'auto'"),
        ("prices set --mode instant --output -1", 2, "--output"),
    ],
)
def test_what_the_book_refuses(museway: Museway, line: str, status: int, why: str) -> None:
    ran = museway(line)
    assert ran.status == status and why in ran.err and ran.err.count("\n") == 1
    assert _instant(museway)["version"] == 1
