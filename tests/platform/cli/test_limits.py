"""Limits, caps and plans by command, on a real database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Ran

Museway = Callable[..., Ran]


@pytest.fixture
def acme(museway: Museway) -> str:
    return museway("orgs create Acme --plan trial --json").json["id"]


def _requests(museway: Museway) -> tuple[int, int, str]:
    row = next(row for row in museway("limits list --org Acme --json").rows if row["metric"] == "requests")
    return row["capacity"], row["refill"], row["set_by"]


def test_an_organization_has_its_plans_limits(museway: Museway, acme: str) -> None:
    assert acme and _requests(museway) == (60, 60, "plan trial")


def test_its_own_limit_stands_in_place_of_the_plans(museway: Museway, acme: str) -> None:
    change = museway(f"limits set --org {acme} --metric requests --limit 100 --burst 10 --json").json
    assert change["before"] == "60 per 60 s, 60 at once (plan trial)"
    assert change["after"] == "100 per 60 s, 10 at once" and change["applied"] is True
    assert _requests(museway) == (10, 100, "organization")
    assert museway(f"limits remove --org {acme} --metric requests --json").json["after"].endswith("(plan trial)")
    assert _requests(museway) == (60, 60, "plan trial")


@pytest.mark.parametrize("line", ["set --limit 1", "remove"])
def test_a_dry_run_changes_nothing(museway: Museway, acme: str, line: str) -> None:
    museway(f"limits set --org {acme} --metric requests --limit 100")
    change = museway(f"limits {line} --org {acme} --metric requests --dry-run --json").json
    assert change["applied"] is False and change["before"] != change["after"]
    assert _requests(museway) == (100, 100, "organization")


def test_a_key_and_a_mode_have_limits_of_their_own(museway: Museway, acme: str) -> None:
    key = museway(f"keys create --org {acme} --json").json["id"]
    museway(f"limits set --key {key} --metric concurrent_requests --limit 2 --mode contemplating")
    rows = museway(f"limits list --key {key} --json").rows
    assert [(row["scope"], row["metric"], row["mode"], row["capacity"]) for row in rows] == [
        ("key", "concurrent_requests", "contemplating", 2)
    ]


def test_caps(museway: Museway, acme: str) -> None:
    museway(f"caps set --org {acme} --period month --usd 10")
    museway(f"caps set --org {acme} --project Default --period day --usd 0.5")
    museway(f"caps set --org {acme} --period month --usd 12")
    rows = museway(f"caps list --org {acme} --json").rows
    assert [(row["period"], row["amount_nano_usd"]) for row in rows] == [("month", 12_000_000_000)]
    project = museway(f"caps list --org {acme} --project Default --json").rows
    assert [(row["scope"], row["amount_nano_usd"]) for row in project] == [("project", 500_000_000)]
    assert museway(f"caps remove --org {acme} --period month --json").rows == []


def test_plans(museway: Museway) -> None:
    assert [row["id"] for row in museway("plans list --json").rows] == ["standard", "trial", "unlimited"]
    made = museway("plans create gold --requests 500 --concurrent-requests 20 --json").json
    assert (made["requests"], made["input_tokens"], made["concurrent_requests"]) == (500, None, 20)
    changed = museway("plans set gold --requests none --output-tokens 9000 --json").json
    assert (changed["requests"], changed["output_tokens"], changed["concurrent_requests"]) == (None, 9000, 20)
    assert museway("plans show gold --json").json == changed


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("limits list", 2, "say whose"),
        ("limits remove --org Acme --metric requests", 1, "no limit of its own"),
        ("limits set --org Acme --metric requests --limit -1", 2, "--limit"),
        ("limits set --org Acme --metric requests --limit 5 --window 0", 2, "at least one second"),
        ("limits set --org Acme --metric money --limit 5", 2, "invalid choice"),
        ("caps remove --org Acme --period day", 1, "no cap per day"),
        ("caps set --key key_none --period day --usd 1", 1, "key key_none does not exist"),
        ("plans create trial", 1, "plan trial exists"),
        ("plans set nothing --requests 5", 1, "does not exist; there are"),
        ("plans set trial", 2, "at least one limit"),
        ("plans create gold --requests many", 2, "neither a count nor none"),
    ],
)
def test_what_cannot_be_done_is_one_line(museway: Museway, acme: str, line: str, status: int, why: str) -> None:
    assert acme
    ran = museway(line)
    assert ran.status == status and why in ran.err and ran.err.count("\n") == 1
