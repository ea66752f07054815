"""Organizations, projects, keys and credit by command, on a real database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from museway_platform.identity import keys

from .conftest import Ran

Museway = Callable[..., Ran]


@pytest.fixture
def acme(museway: Museway) -> str:
    """An organization's id."""
    return museway("orgs create Acme --json").json["id"]


def test_an_organization_comes_with_a_project(museway: Museway, acme: str) -> None:
    assert [row["name"] for row in museway("orgs list --json").rows] == ["Acme"]
    assert [row["name"] for row in museway(f"projects list --org {acme} --json").rows] == ["Default"]


def test_a_key_is_shown_once(museway: Museway, acme: str) -> None:
    issued = museway("keys create --org Acme --json").json
    assert keys.well_formed(issued["key"]) and issued["key"].startswith("mw_live_") and issued["id"].startswith("key_")
    assert issued["organization"] == acme
    listed = museway("keys list --org Acme --json")
    assert [row["id"] for row in listed.rows] == [issued["id"]]
    assert issued["key"] not in listed.out


def test_a_test_key(museway: Museway, acme: str) -> None:
    assert museway(f"keys create --org {acme} --test --json").json["key"].startswith("mw_test_")


def test_rotation_keeps_the_id(museway: Museway, acme: str) -> None:
    first = museway(f"keys create --org {acme} --json").json
    second = museway(f"keys rotate {first['id']} --json").json
    assert second["id"] == first["id"] and second["key"] != first["key"]


def test_revoking_twice_is_no_error(museway: Museway, acme: str) -> None:
    key = museway(f"keys create --org {acme} --json").json["id"]
    assert museway(f"keys revoke {key} --json").json == {"id": key, "revoked_now": True}
    assert museway(f"keys revoke {key} --json").json == {"id": key, "revoked_now": False}
    assert museway(f"keys list --org {acme} --json").rows[0]["state"] == "revoked"


def test_credit_is_granted_once_per_id(museway: Museway, acme: str) -> None:
    grant = f"credits grant --org {acme} --usd 5 --id txn_first --json"
    assert museway(grant).json["granted_now"] is True
    assert museway(grant).json["granted_now"] is False
    assert museway(f"credits show --org {acme} --json").json["credit_nano_usd"] == 5_000_000_000


def test_another_grant_under_the_same_id_is_refused(museway: Museway, acme: str) -> None:
    museway(f"credits grant --org {acme} --usd 5 --id txn_first")
    refused = museway(f"credits grant --org {acme} --usd 6 --id txn_first")
    assert refused.status == 1 and "amount" in refused.err
    assert museway(f"credits show --org {acme} --json").json["credit_nano_usd"] == 5_000_000_000


def test_an_organization_is_suspended_and_back(museway: Museway, acme: str) -> None:
    assert museway(f"orgs set {acme} --state suspended --json").json["state"] == "suspended"
    assert (
        museway("orgs set Acme --state active --allowance-usd 2.5 --json").json["allowance_nano_usd"] == 2_500_000_000
    )
    assert museway("orgs show Acme --json").json["state"] == "active"


def test_a_projects_default_mode(museway: Museway, acme: str) -> None:
    assert (
        museway(f"projects create Chat --org {acme} --default-mode thinking --json").json["default_mode"] == "thinking"
    )
    assert museway(f"projects set Chat --org {acme} --default-mode none --json").json["default_mode"] is None


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("orgs show Nobody", 1, "no organization is called 'Nobody'"),
        ("orgs show org_01ABC", 1, "organization org_01ABC does not exist"),
        ("orgs create Beta --plan gold", 1, "plan gold does not exist"),
        ("projects create Default --org Acme", 1, "a project named 'Default' exists"),
        ("keys rotate key_01ABC", 1, "key key_01ABC does not exist"),
        ("keys create --org Acme --project Nothing", 1, "no project is called 'Nothing'"),
        ("credits grant --org Acme --usd five", 2, "'five' is no amount in USD"),
        ("credits grant --org Acme --usd 0", 1, "amount is not above 0"),
        ("credits grant --org Acme --usd 5 --id mine", 2, "--id begins with txn_"),
        ("credits grant --org Acme --usd 5 --expires soon", 2, "'soon' is no date"),
        ("orgs", 2, "museway orgs --help"),
        ("orgs dance", 2, "invalid choice: 'dance'"),
    ],
)
def test_what_cannot_be_done_is_one_line(museway: Museway, acme: str, line: str, status: int, why: str) -> None:
    assert acme
    ran = museway(line)
    assert ran.status == status and ran.out == ""
    assert why in ran.err and ran.err.count("\n") == 1 and ran.err.startswith(f"museway {line.split()[0]}")


def test_two_of_one_name_are_told_apart_by_id(museway: Museway, acme: str) -> None:
    other = museway("orgs create Acme --json").json["id"]
    refused = museway("orgs show Acme")
    assert refused.status == 1 and acme in refused.err and other in refused.err


def test_a_refused_command_changes_nothing(museway: Museway, acme: str) -> None:
    museway("orgs create Beta --plan gold")
    assert [row["id"] for row in museway("orgs list --json").rows] == [acme]


def test_migrate_says_what_is_left(museway: Museway) -> None:
    assert museway("migrate --json").json == {"applied": [], "pending": []}
    assert museway("migrate --dry-run --json").json == {"applied": [], "pending": []}


def test_an_old_schema_is_named(museway: Museway, empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEWAY_DATABASE_URL", empty_database)
    refused = museway("orgs list")
    assert refused.status == 1 and "run `museway migrate`" in refused.err
    assert museway("migrate --json").json["applied"][0] == "0001_platform.sql"
    assert museway("orgs list").out == "Nothing yet.\n"


def test_a_database_that_is_away_is_one_line(museway: Museway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEWAY_DATABASE_URL", "postgresql://museway@127.0.0.1:1/museway")
    refused = museway("orgs list")
    assert refused.status == 1 and "the database does not answer" in refused.err and refused.err.count("\n") == 1


def test_a_wrong_setting_is_status_2(museway: Museway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEWAY_PROT", "8400")
    refused = museway("orgs list")
    assert refused.status == 2 and "MUSEWAY_PROT" in refused.err and "MUSEWAY_PORT" in refused.err


def test_no_database_is_never_made_by_looking(
    museway: Museway, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("MUSEWAY_DATABASE_URL")
    refused = museway("orgs list")
    assert refused.status == 1 and "museway up" in refused.err
