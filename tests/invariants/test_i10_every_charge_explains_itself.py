"""I10: tokens x price at a version, per agent, phase and class, signed; a customer verifies it offline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from doubles.worker_process import FakeWorker
from gateway import Gateway, StartGateway

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Explain."}], "max_tokens": 60}


def receipt(gateway: Gateway, secret: str, request_id: str) -> dict[str, Any]:
    with gateway.client(secret) as client:
        for _ in range(100):
            answer = client.get(f"/v1/receipts/{request_id}")
            if answer.status_code == 200:
                body: dict[str, Any] = answer.json()
                return body
            assert answer.status_code == 202, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.05)  # tidy: allow sleep: polling another process
    raise AssertionError("the receipt never came")


@pytest.mark.parametrize("mode", ["instant", "thinking", "contemplating"])
def test_a_receipt_adds_up_and_verifies(
    start_gateway: StartGateway, fake_worker: FakeWorker, tmp_path: Path, mode: str
) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        answer = client.post("/v1/chat/completions", json={**BODY, "mode": mode})
        assert answer.status_code == 200, answer.text
        museway = answer.json()["museway"]
        assert int(answer.headers["x-museway-cost-nano-usd"]) == museway["cost_nano_usd"]
        signed = receipt(gateway, customer.secret, museway["request_id"])
        keys = client.get("/.well-known/museway-receipts.json").json()
    body = signed["receipt"]
    assert body["total_nano_usd"] == museway["cost_nano_usd"] == sum(line["amount_nano_usd"] for line in body["lines"])
    for line in body["lines"]:
        assert line["amount_nano_usd"] == line["tokens"] * line["price_nano_usd_per_mtok"] // 1_000_000
    assert body["price_version"] == museway["price_version"]
    phases = {line["phase"] for line in body["lines"]}
    assert phases >= {"instant": {"answer"}, "thinking": {"think"}, "contemplating": {"think", "synthesis"}}[mode]

    saved = tmp_path / "receipt.json"
    saved.write_text(json.dumps(signed))
    trusted = tmp_path / "keys.json"
    trusted.write_text(json.dumps(keys))
    verified = gateway.museway("receipts", "verify", str(saved), "--keys", str(trusted))
    assert verified.returncode == 0, verified.stderr
    body["total_nano_usd"] += 1
    saved.write_text(json.dumps(signed))
    assert gateway.museway("receipts", "verify", str(saved), "--keys", str(trusted)).returncode == 1
