"""I8: text that was delivered and never counted is unknown: shown so, never guessed, never charged as zero or as a guess."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from doubles.worker_process import Behaviour, FakeWorker
from gateway import Gateway, StartGateway
from museway_billing.ledger.sweep import sweep

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Count me."}], "max_tokens": 20, "stream": True}


def answered_without_counts(gateway: Gateway, worker: FakeWorker, secret: str) -> dict[str, Any]:
    """The record of an answer whose worker never told a count."""
    worker.script(Behaviour(tokens=10, usage=False))
    with gateway.client(secret) as client, client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        lines = list(answer.iter_lines())
    assert any('"content":"' in line for line in lines)
    (record,) = gateway.drained_export(1)
    return record


def reconciled(gateway: Gateway) -> dict[str, Any]:
    done = gateway.museway("reconcile", "--json")
    assert done.returncode == 0, done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_worker_that_never_counts(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    """Shown as unknown, charged nothing, reserved, and free again after a day."""
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    record = answered_without_counts(gateway, fake_worker, customer.secret)
    assert record["state"] == "unknown"
    assert record["output"] is None
    assert record["reasoning"] is None
    assert record["amount_nano_usd"] == 0
    reserve = reconciled(gateway)["reserved"]
    assert reserve > 0
    balance = gateway.balance(customer.secret)
    assert balance["available_nano_usd"] == before - reserve
    assert balance["held_nano_usd"] == 0

    gateway.stop()
    gateway.start()
    assert gateway.balance(customer.secret)["available_nano_usd"] == before - reserve, "a restart forgets nothing"

    gateway.in_database(lambda pool: sweep(pool, now=datetime.now(UTC) + timedelta(hours=23)))
    assert reconciled(gateway)["reserved"] == reserve
    gateway.in_database(lambda pool: sweep(pool, now=datetime.now(UTC) + timedelta(hours=25)))
    gateway.until(lambda: gateway.balance(customer.secret)["available_nano_usd"] == before, within_s=2)
    assert reconciled(gateway)["reserved"] == 0


def test_an_operator_who_knows_the_count(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    record = answered_without_counts(gateway, fake_worker, customer.secret)
    (shown,) = json.loads(gateway.museway("credits", "unknown", "--json").stdout)["data"]
    assert shown["record"] == record["id"]
    done = gateway.museway(
        "credits", "settle-unknown", record["id"], "--output", "10", "--reason", "its own book", "--json"
    )
    charged = -json.loads(done.stdout)["amount_nano_usd"]
    assert 0 < charged <= shown["reserved_nano_usd"]
    gateway.until(lambda: gateway.balance(customer.secret)["available_nano_usd"] == before - charged, within_s=2)
    (sums,) = reconciled(gateway)["sums"]
    assert sums["settled"] == charged
