"""I5: a record carries the price version under which its hold was made; history is never repriced."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from doubles.worker_process import Behaviour, FakeWorker
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Price me."}], "max_tokens": 80}
DEAR = 9_000_000_000


def ask(gateway: Gateway, secret: str, answers: list[dict[str, Any]]) -> None:
    with gateway.client(secret) as client:
        answers.append(client.post("/v1/chat/completions", json=BODY).json())


def wait_for_price(gateway: Gateway, secret: str) -> None:
    with gateway.client(secret) as client:
        for _ in range(200):
            if client.get("/v1/models/muse").json()["prices"]["instant"]["output"] == DEAR:
                return
            time.sleep(0.05)  # tidy: allow sleep: polling another process
    raise AssertionError("the gateway never heard of the new price")


def test_a_price_change_in_the_middle_of_a_request(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=70, delay_ms=60), times=1)
    answers: list[dict[str, Any]] = []
    slow = threading.Thread(target=ask, args=(gateway, customer.secret, answers))
    slow.start()
    fake_worker.wait_for("req_", tokens=2)
    price = {"model": "*", "mode": "instant", "input": DEAR, "cached_input": DEAR, "reasoning": DEAR, "output": DEAR}
    done = gateway.museway("prices", "announce", "--price", json.dumps(price), "--json")
    assert done.returncode == 0, done.stderr
    wait_for_price(gateway, customer.secret)
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
