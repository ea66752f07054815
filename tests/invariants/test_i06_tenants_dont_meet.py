"""I6: no key of one organization reads, infers or spends another's."""

from __future__ import annotations

from typing import Any

import pytest

from doubles.worker_process import FakeWorker
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare

LONG = "The tide tables of the northern harbours, read aloud. " * 40


def ask(gateway: Gateway, secret: str) -> dict[str, Any]:
    with gateway.client(secret) as client:
        body = {"model": "muse", "messages": [{"role": "user", "content": LONG}], "max_tokens": 8}
        answer: dict[str, Any] = client.post("/v1/chat/completions", json=body).json()
        return answer


def cached(answer: dict[str, Any]) -> int:
    tokens: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return tokens


def test_prefixes_are_shared_within_an_organization_only(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    mine, other = gateway.customer(), gateway.customer()
    assert cached(ask(gateway, mine.secret)) == 0
    again = cached(ask(gateway, mine.secret))
    assert again > 100
    assert cached(ask(gateway, other.secret)) == 0
    salts = {entry.salt for entry in fake_worker.book("req_")}
    assert len(salts) == 2
    assert "" not in salts
    compare(fake_worker, gateway)


@pytest.mark.engine
def test_on_real_sglang(start_gateway: StartGateway, real_worker: str) -> None:
    gateway = start_gateway([real_worker])
    mine, other = gateway.customer(), gateway.customer()
    ask(gateway, mine.secret)
    again = cached(ask(gateway, mine.secret))
    assert again > 100
    assert cached(ask(gateway, other.secret)) == 0


def test_what_belongs_to_another_does_not_exist(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    mine, other = gateway.customer(usd=5), gateway.customer(usd=7)
    request_id = ask(gateway, mine.secret)["museway"]["request_id"]
    compare(fake_worker, gateway)
    with gateway.client(mine.secret) as client:
        assert client.get(f"/v1/receipts/{request_id}").status_code == 200
        mine_used = client.get("/v1/usage?start_time=0").status_code
        assert mine_used in (200, 400)
    with gateway.client(other.secret) as client:
        assert client.get(f"/v1/receipts/{request_id}").status_code == 404
        balance = client.get("/v1/balance").json()
        assert balance["available_nano_usd"] == 7_000_000_000
        assert balance["organization"] == other.organization.id
        ids = {limit["scope_id"] for limit in client.get("/v1/limits").json()["data"]}
        assert mine.organization.id not in ids
