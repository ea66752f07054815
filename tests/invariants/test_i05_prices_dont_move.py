"""I5: a record carries the price version under which its hold was made; history is never repriced."""

from __future__ import annotations

import threading
from typing import Any

from doubles.worker_process import Behaviour, FakeWorker
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Price me."}], "max_tokens": 80}
DEAR = 9_000_000_000


def ask(gateway: Gateway, secret: str, answers: list[dict[str, Any]]) -> None:
    with gateway.client(secret) as client:
        answers.append(client.post("/v1/chat/completions", json=BODY).json())


def test_a_price_change_in_the_middle_of_a_request(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=70, delay_ms=60), times=1)
    answers: list[dict[str, Any]] = []
    slow = threading.Thread(target=ask, args=(gateway, customer.secret, answers))
    slow.start()
    fake_worker.wait_for("req_", tokens=2)
    usd = [part for name in ("input", "cached-input", "reasoning", "output") for part in (f"--{name}", "9")]
    done = gateway.museway("prices", "set", "--mode", "instant", *usd, "--json")
    assert done.returncode == 0, done.stderr
    with gateway.client(customer.secret) as client:
        gateway.until(lambda: client.get("/v1/models/muse").json()["prices"]["instant"]["output"] == DEAR, within_s=5)
    assert slow.is_alive(), "the slow request ended before the price changed: this run proves nothing"
    slow.join(30)
    ask(gateway, customer.secret, answers)
    before, after = answers
    assert before["museway"]["price_version"] < after["museway"]["price_version"]
    _, lines = compare(fake_worker, gateway)
    by_request = {line["request_id"]: line for line in lines.values()}
    for answer in answers:
        line = by_request[answer["museway"]["request_id"]]
        assert line["price_version"] == answer["museway"]["price_version"]
        assert line["amount_nano_usd"] == answer["museway"]["cost_nano_usd"]
    assert gateway.museway("reconcile").returncode == 0
