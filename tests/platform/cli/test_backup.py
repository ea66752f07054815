"""A database that is lost comes back whole: the backup, and from the journals all that came after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doubles.worker_process import Behaviour, FakeWorker
from gateway import Gateway, StartGateway

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 20}


def load(gateway: Gateway, worker: FakeWorker, secret: str, requests: int) -> None:
    worker.script(Behaviour(tokens=6))
    with gateway.client(secret) as client:
        for _ in range(requests):
            assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def done(gateway: Gateway, *words: str) -> dict[str, Any]:
    ran = gateway.museway(*words, "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_nothing_is_lost_with_the_database(
    start_gateway: StartGateway, fake_worker: FakeWorker, empty_database: str, tmp_path: Path
) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    load(gateway, fake_worker, customer.secret, 5)
    gateway.drained_export(5)
    backup = tmp_path / "backup"
    assert done(gateway, "backup", str(backup))["database_bytes"] > 0
    assert gateway.museway("backup", str(backup)).returncode == 1, "an older backup is not written over"
    load(gateway, fake_worker, customer.secret, 5)
    gateway.drained_export(10)
    gateway.stop()  # drained to its end: its journal is gone from among the journals
    gateway.start()
    load(gateway, fake_worker, customer.secret, 4)
    gateway.kill()
    before = {entry.rid for entry in fake_worker.wait_idle() if not entry.rid.startswith("sys_")}
    assert len(before) == 14

    assert gateway.museway("restore", str(backup)).returncode == 1, "not over a database that has something"
    gateway.use_database(empty_database)
    restored = done(gateway, "restore", str(backup))
    assert restored["records_added"] == 9
    gateway.start()
    lines = gateway.drained_export(14)
    assert {line["rid"] for line in lines} == before
    assert len({line["id"] for line in lines}) == len(lines) == 14
    assert done(gateway, "reconcile")["ok"]
    spent = sum(line["amount_nano_usd"] for line in lines)
    assert gateway.balance(customer.secret)["available_nano_usd"] == 10_000_000_000 - spent
    load(gateway, fake_worker, customer.secret, 1)
    gateway.drained_export(15)
    assert done(gateway, "reconcile")["ok"]


def test_what_is_no_backup(start_gateway: StartGateway, fake_worker: FakeWorker, tmp_path: Path) -> None:
    gateway = start_gateway([fake_worker.url])
    assert gateway.museway("restore", str(tmp_path)).returncode == 2
    manifest: dict[str, Any] = {
        "format": 1,
        "created": "2026-01-01T00:00:00Z",
        "schema": "9999_later.sql",
        "journals": {},
    }
    (tmp_path / "backup.json").write_text(json.dumps(manifest))
    told = gateway.museway("restore", str(tmp_path))
    assert told.returncode == 1
    assert "later program" in told.stderr
