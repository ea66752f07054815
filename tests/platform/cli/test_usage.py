"""What was used, exported, proved and signed: commands beside a running `up`, with a scripted worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import museway
from doubles.worker_process import FakeWorker
from museway_billing.reports.export import ExportLine
from museway_engine.runtime.launch import free_port
from traffic import Checked

from .conftest import Ran
from .processes import Program, data_folder

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("museway up")]


class Site(Struct, frozen=True):
    """A stack that has answered something: two instant, one thinking, one contemplating."""

    ready: dict[str, str]
    folder: Path
    replies: tuple[museway.Reply, ...]


@pytest.fixture(scope="module")
def site(fake_worker_process: FakeWorker, wiretapped: Checked) -> Iterator[Site]:
    settings = {"MUSEWAY_ENGINE_URLS": fake_worker_process.url, "MUSEWAY_PORT": str(free_port())}
    with data_folder() as folder, Program("up", "--json", settings=settings, folder=folder) as up:
        ready = up.ready()
        with museway.Museway(api_key=ready["key"], base_url=ready["base_url"]) as client:
            replies = tuple(
                client.generate("Say something.", mode=mode, max_tokens=64)
                for mode in ("instant", "instant", "thinking", "contemplating")
            )
            assert wiretapped.bodies == len(replies)
            for reply in replies:
                client.receipt(reply.request_id or "")  # it is there once the records are in the ledger
        yield Site(ready, folder, replies)


@pytest.fixture
def run(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    from museway.cli.dispatch import main

    monkeypatch.setenv("MUSEWAY_DATA_DIR", str(site.folder))

    def run(line: str, *more: str) -> Ran:
        capsys.readouterr()
        status = main([*line.split(), *more])
        printed = capsys.readouterr()
        return Ran(status, printed.out, printed.err)

    return run


def _cost(site: Site) -> int:
    return sum(reply.cost.nano_usd for reply in site.replies if reply.cost is not None)


def _export(site: Site) -> list[dict[str, Any]]:
    """In a process of its own: bytes go to the real standard output."""
    command = [sys.executable, "-m", "museway_platform", "usage", "export", "--org", "Default"]
    lines = subprocess.run(
        command, env={"MUSEWAY_DATA_DIR": str(site.folder), "PATH": "/usr/bin:/bin"}, capture_output=True, check=True
    ).stdout
    return [json.loads(line) for line in lines.splitlines()]


def test_sums_are_what_the_replies_said(site: Site, run: Callable[..., Ran]) -> None:
    rows = {row["mode"]: row for row in run("usage --by mode --json").rows}
    assert {mode: row["requests"] for mode, row in rows.items()} == {"instant": 2, "thinking": 1, "contemplating": 1}
    assert sum(row["amount_nano_usd"] for row in rows.values()) == _cost(site)
    tokens = sum(reply.usage.completion_tokens for reply in site.replies if reply.usage is not None)
    assert sum(row["reasoning"] + row["output"] for row in rows.values()) == tokens


def test_sums_by_day_key_and_class_agree(site: Site, run: Callable[..., Ran]) -> None:
    for grouping in ("day", "key", "project", "organization", "class", "hour,mode", "day,class"):
        rows = run(f"usage --by {grouping} --json").rows
        assert sum(row["amount_nano_usd"] for row in rows) == _cost(site), grouping


def test_a_person_sees_a_table_with_a_total_and_a_picture(run: Callable[..., Ran]) -> None:
    shown = run("usage --by day,mode --plot").out
    assert "total" in shown and "█" in shown and "■ instant" in shown and "$0.00" in shown
    assert "█" not in run("usage --by day,mode --no-plot").out


def test_another_period_or_organization_is_empty(run: Callable[..., Ran]) -> None:
    assert run("usage --since 2020-01-01 --until 2020-02-01").out == "No usage in this period.\n"
    assert run("usage --org Nobody").status == 1


def test_the_export_has_every_record_with_the_keys_in_their_order(site: Site) -> None:
    lines = _export(site)
    assert all(list(line) == list(ExportLine.__struct_fields__) for line in lines)
    assert sum(line["amount_nano_usd"] - line["credited_nano_usd"] for line in lines) == _cost(site)
    assert {line["request_id"] for line in lines} == {reply.request_id for reply in site.replies}
    assert [line["created"] for line in lines] == sorted(line["created"] for line in lines)


def test_an_export_to_a_file_is_whole_or_not_there(site: Site, run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    assert run(f"usage export --output {file}").status == 0
    assert len(file.read_text().splitlines()) == len(_export(site))
    assert list(tmp_path.iterdir()) == [file]


def test_the_books_reconcile(site: Site, run: Callable[..., Ran]) -> None:
    report = run("reconcile --json").json
    assert report["ok"] is True and report["differences"] == []
    assert [(sums["usage"], sums["credit_used"]) for sums in report["sums"]] == [(_cost(site), _cost(site))]
    assert run("reconcile").out.endswith("\nreconciled\n")


def test_a_receipt_is_verified_offline_and_its_forgery_refused(
    site: Site, run: Callable[..., Ran], tmp_path: Path
) -> None:
    with museway.Museway(api_key=site.ready["key"], base_url=site.ready["base_url"]) as client:
        receipt = client.receipt(site.replies[-1].request_id or "")
    file, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    file.write_bytes(receipt.raw)
    keys.write_text(
        json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": k.kid, "x": k.x} for k in receipt.keys.keys]})
    )
    for line in (f"receipts verify {file} --json", f"receipts verify {file} --keys {keys} --json"):
        assert run(line).json["total_nano_usd"] == receipt.total_nano_usd
    assert run(f"receipts verify {file}").out.endswith(": valid\n")
    total = f'"total_nano_usd":{receipt.total_nano_usd}'.encode()
    file.write_bytes(receipt.raw.replace(total, b'"total_nano_usd":1'))
    forged = run(f"receipts verify {file}")
    assert forged.status == 1 and "not a valid receipt" in forged.err


def test_bench_measures_and_pays(site: Site, run: Callable[..., Ran]) -> None:
    load = run(
        f"bench --base-url {site.ready['base_url']} --key {site.ready['key']} --requests 6 --concurrency 3 --json"
    )
    assert load.json["requests"] == 6 and load.json["failed"] == 0
    assert load.json["cost_nano_usd"] > 0 and load.json["first_token_ms_p50"] > 0


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("usage --by colour", 2, "cannot group by colour"),
        ("usage --by day,hour", 2, "one of hour, day"),
        ("usage --since tomorrow", 2, "is no date"),
        ("receipts verify /nonexistent", 2, "cannot read /nonexistent"),
        ("bench --requests 0", 2, "at least 1"),
        ("bench --base-url http://127.0.0.1:1 --key mw_live_x --requests 1", 1, "every request failed"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Callable[..., Ran], line: str, status: int, why: str) -> None:
    ran = run(line)
    assert ran.status == status and why in ran.err and ran.err.count("\n") == 1
