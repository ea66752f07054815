"""I3 while streams run: a cap that is lowered below what is held, an organization that is suspended.

Lowered caps: what is held already may be delivered, nothing beyond it is granted, and the stream ends there. Suspended
organizations: nothing new begins; what runs was admitted and paid for, and finishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2

from doubles.worker_process import Behaviour, FakeWorker
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare, money

MESSAGES = [{"role": "user", "content": "Tell me of the sea."}]
URL = "/v1/chat/completions"
BODY = {"model": "muse", "messages": MESSAGES, "stream": True}


def events(answer: httpx2.Response) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def cap(gateway: Gateway, key: str, usd: str) -> None:
    done = gateway.museway("caps", "set", "--key", key, "--period", "day", "--usd", usd)
    assert done.returncode == 0, done.stderr


def test_a_cap_lowered_below_what_is_held(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=4000, delay_ms=4))
    with gateway.client(customer.secret) as client:
        with client.stream("POST", URL, json={**BODY, "max_tokens": 4000}) as answer:
            stream = events(answer)
            next(stream)
            cap(gateway, customer.key, "0.000000001")
            last = list(stream)[-1]
        assert last["choices"][0]["finish_reason"] == "length"
        assert last["museway"]["stop_reason"] == "budget_exhausted"
        assert client.post(URL, json={**BODY, "max_tokens": 1}).json()["error"]["code"] == "cap_reached"
    _, records = compare(fake_worker, gateway)
    (record,) = [record for record in records.values() if record["output"]]
    assert record["output"] < 3000, "it did not go on to its end"
    assert money(records) == gateway.balance(customer.secret)["posted_nano_usd"] * -1 + 10 * 10**9


def test_an_organization_suspended_while_it_streams(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=900, delay_ms=4))
    with gateway.client(customer.secret) as client:
        with client.stream("POST", URL, json={**BODY, "max_tokens": 900}) as answer:
            stream = events(answer)
            next(stream)
            done = gateway.museway("orgs", "set", customer.organization.id, "--state", "suspended")
            assert done.returncode == 0, done.stderr
            gateway.until(lambda: client.post(URL, json=BODY).status_code == 401, within_s=2)
            assert "suspended" in client.post(URL, json=BODY).json()["error"]["message"]
            last = list(stream)[-1]
    assert last["choices"][0]["finish_reason"] in ("stop", "length")
    assert last["museway"]["stop_reason"] != "budget_exhausted"
    _, records = compare(fake_worker, gateway)
    assert max(record["output"] for record in records.values()) == 900
