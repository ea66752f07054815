"""kill -9 under requests with Idempotency-Keys: whoever retries gets each answer once, and pays for it once.

At random moments, and where an answer is durable and its bill is not: that one must not be had for nothing.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from customers import Customer
from doubles.worker_process import FakeWorker, Options
from faults.rest import stop, worker_pid
from faults.scale import drawn, scaled
from gateway import Gateway, StartGateway
from museway_billing.journal.slots import SlotState, read_slots
from museway_platform.idempotency.frame import Kind
from museway_platform.idempotency.segments import Segments

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]

ROUNDS = scaled(1, 20)
CALLERS = 12
POINT_S = scaled(20.0, 90.0)
COST = re.compile(rb'"cost_nano_usd":(\d+)')


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    with FakeWorker(Options(delay_ms=1)) as worker:
        yield worker


@pytest.fixture
def gateway(start_gateway: StartGateway, worker: FakeWorker) -> Gateway:
    return start_gateway([worker.url])


class Callers:
    """Each asks under one new key after another, until told that it is enough. `answers`: what came whole, by key;
    `asked`: all keys, in order."""

    def __init__(self, gateway: Gateway, customer: Customer, seed: int) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._gateway = gateway
        self._customer = customer
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(f"{seed}-{number}",)) for number in range(CALLERS)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(60)

    def post(self, client: httpx2.Client, key: str) -> httpx2.Response:
        request = {
            "model": "muse",
            "messages": [{"role": "user", "content": "Why?"}],
            "max_tokens": 12,
            "stream": hash(key) % 2 == 0,
            "mode": ("instant", "thinking")[key.endswith("0")],
        }
        return client.post("/v1/chat/completions", json=request, headers={"idempotency-key": key})

    def _call(self, name: str) -> None:
        with self._gateway.client(self._customer.secret) as client:
            for number in range(10_000):
                key = f"{name}-{number}"
                self.asked.append(key)
                try:
                    answer = self.post(client, key)
                except httpx2.HTTPError:
                    return
                if answer.status_code == 200 and COST.search(answer.content):
                    self.answers[key] = answer.content
                if self._enough.is_set():
                    return


def judge(gateway: Gateway, customer: Customer, callers: Callers) -> list[dict[str, object]]:
    """Ask again for everything: what had come whole comes again, and the bill is the sum of the answers."""
    total = 0
    with gateway.client(customer.secret) as client:
        for key in callers.asked:
            answer = callers.post(client, key)
            assert answer.status_code == 200, answer.text
            assert answer.content == callers.answers.get(key, answer.content), key
            if key in callers.answers:
                assert answer.headers["idempotent-replayed"] == "true", key
            total += int(COST.findall(answer.content)[-1])
    lines = gateway.drained_export(len(callers.asked))
    Gateway.until(lambda: gateway.balance(customer.secret)["undrained_nano_usd"] == 0, within_s=20)
    lines = gateway.export()
    assert sum(line["amount_nano_usd"] - line["credited_nano_usd"] for line in lines) == total
    assert gateway.balance(customer.secret)["held_nano_usd"] == 0
    done = gateway.museway("reconcile", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return lines


@pytest.mark.parametrize("number", range(ROUNDS))
def test_at_random(gateway: Gateway, number: int) -> None:
    chance = drawn(f"killed under keys {number}")
    customer = gateway.customer(usd=1000)
    with Callers(gateway, customer, chance.randrange(1 << 30)) as callers:
        Gateway.until(lambda: len(callers.answers) > chance.randrange(10, 60), within_s=30)
        gateway.kill()
    gateway.start()
    assert any(line["state"] == "interrupted" for line in judge(gateway, customer, callers)), "nothing ran at the kill"


def test_where_an_answer_is_durable_and_its_bill_is_not(gateway: Gateway) -> None:
    chance = drawn("killed between an answer and its bill")
    customer = gateway.customer(usd=1000)
    with Callers(gateway, customer, chance.randrange(1 << 30)) as callers:
        Gateway.until(lambda: len(callers.answers) > 5, within_s=30)
        early = stop_where_early(gateway, chance)
        gateway.kill()
    assert early, f"no answer was seen before its bill within {POINT_S:g} s"
    gateway.start()
    lines = judge(gateway, customer, callers)
    assert early <= {line["request_id"] for line in lines if line["state"] == "interrupted"}


def stop_where_early(gateway: Gateway, chance: random.Random) -> set[str]:
    """Stop the process where an answer is on the disk whose call has no record, and leave it stopped; the requests."""
    pid = worker_pid(gateway)
    (slots,) = [folder / "slots" for folder in (gateway.data_dir / "journal").glob(f"gateway-{pid}-*")]
    deadline = time.monotonic() + POINT_S
    while time.monotonic() < deadline:
        stop(pid)
        open_ = {s.identity.request_id for s in read_slots(slots) if s.identity and s.state is SlotState.DISPATCHED}
        answers = Segments(gateway.data_dir / "answers" / "0")
        headers = [header for number in answers.sizes for _, header in answers.read_headers(number)]
        found = open_ & {header.request_id for header in headers if header.kind is Kind.ANSWER}
        if found:
            return found
        os.kill(pid, signal.SIGCONT)
        time.sleep(chance.random() * 0.003)  # tidy: allow sleep: the moment of the next look, drawn
    return set()
