"""I9: no route can make a worker generate without passing the meter; our own probes carry rids `sys_…`."""

from __future__ import annotations

import itertools

from doubles.worker_process import FakeWorker
from gateway import StartGateway
from invariants.ledgerbook import compare
from museway_platform.api.app import HOT_PATH, PLANNED, ROUTES

METERED = {HOT_PATH}
"""Routes that may generate: each is covered by the tests of I1."""

CHAT = {"model": "muse", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}


def paths() -> set[str]:
    built: set[str] = {path for route in ROUTES for path in route.paths}
    return {path.replace("{model:str}", "muse").replace("{request_id:str}", "req_x") for path in built}


def test_every_route_of_the_table(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.wait_idle()
    generated = [entry.rid for entry in fake_worker.book()]
    with gateway.client(customer.secret) as client:
        for path, method in itertools.product(sorted({*paths(), *PLANNED} - METERED), ("GET", "POST", "DELETE")):
            answer = client.request(method, path, json=CHAT if method == "POST" else None)
            assert answer.status_code < 500, (method, path, answer.text)
    fake_worker.wait_idle()
    assert [entry.rid for entry in fake_worker.book()] == generated, "a route generated without being metered"
    assert all(rid.startswith("sys_") for rid in generated)
    assert gateway.export() == []
    with gateway.client(customer.secret) as client:
        assert client.post(HOT_PATH, json=CHAT).status_code == 200
    book, lines = compare(fake_worker, gateway)
    assert len(book) == len(lines) == 1
