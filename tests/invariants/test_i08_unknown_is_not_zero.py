"""I8: text that was delivered and never counted is unknown: shown so, never guessed, never charged as zero or as a guess."""

from __future__ import annotations

from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Count me."}], "max_tokens": 20, "stream": True}


def test_a_worker_that_never_counts(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(tokens=10, usage=False))
    with gateway.client(customer.secret) as client, client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        lines = list(answer.iter_lines())
    assert any('"content":"' in line for line in lines)
    (record,) = gateway.drained_export(1)
    assert record["state"] == "unknown"
    assert record["output"] is None
    assert record["reasoning"] is None
    assert record["amount_nano_usd"] == 0
    balance = gateway.balance(customer.secret)
    assert balance["available_nano_usd"] == before
    assert balance["held_nano_usd"] == 0
