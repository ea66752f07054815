"""I1: every token that a worker reported is in exactly one usage record, however the request ended."""

from __future__ import annotations

import math
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from customers import Customer
from doubles.worker_process import Behaviour, FakeWorker, Match, Options
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare, money

MODES = ("instant", "thinking", "contemplating", "auto")


def ask(gateway: Gateway, customer: Customer, **body: Any) -> Any:
    request = {"model": "muse", "messages": [{"role": "user", "content": "Why is the sea salt?"}], **body}
    with gateway.client(customer.secret) as client:
        if not body.get("stream"):
            answer = client.post("/v1/chat/completions", json=request)
            assert answer.status_code == 200, answer.text
            return answer.json()
        with client.stream("POST", "/v1/chat/completions", json=request) as streamed:
            assert streamed.status_code == 200, streamed.read()
            return list(streamed.iter_lines())


class HangUp(NamedTuple):
    chunks: int
    """Text chunks that arrived whole."""
    closed: float
    """When the client closed, on the machine's monotonic clock."""


def hang_up(gateway: Gateway, customer: Customer, body: bytes, after_bytes: int) -> HangUp:
    """Read so many bytes of a stream, then close."""
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname or "", address.port or 0), 10) as wire:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.secret}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body)
        seen = b""
        while len(seen) < after_bytes and (data := wire.recv(min(4096, after_bytes - len(seen)))):
            seen += data
    return HangUp(seen.count(b'"content":"') - seen.count(b'"content":""'), time.monotonic())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("mode", MODES)
def test_completed_requests(start_gateway: StartGateway, fake_worker: FakeWorker, mode: str, stream: bool) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    for length in (1, 7, 60):
        ask(gateway, customer, mode=mode, stream=stream, max_tokens=40 + length)
    book, lines = compare(fake_worker, gateway)
    assert len(book) >= 3
    assert all(line["state"] == "complete" for line in lines.values())
    assert mode == "contemplating" or all(line["unbilled"] == 0 for line in lines.values())
    assert before - gateway.balance(customer.secret)["available_nano_usd"] == money(lines) > 0


def test_several_choices_bill_the_prompt_once(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    answer = ask(gateway, customer, n=3, max_tokens=20)
    assert len(answer["choices"]) == 3
    _, lines = compare(fake_worker, gateway)
    assert len(lines) == 3
    charged = sorted(line["input"] + line["cached_input"] for line in lines.values())
    assert charged[:2] == [0, 0]
    assert charged[2] == answer["usage"]["prompt_tokens"]


def test_clients_that_hang_up(start_gateway: StartGateway) -> None:
    """40 clients leave at seeded random points: delivered <= billed <= reported, and the rest is unbilled."""
    rng = random.Random(7)
    body = b'{"model":"muse","stream":true,"max_tokens":200,"messages":[{"role":"user","content":"%d"}]}'
    with FakeWorker(Options(delay_ms=2)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        worker.script(Behaviour(tokens=150))

        def one(number: int) -> HangUp:
            return hang_up(gateway, customer, body % number, rng.randrange(300, 20_000))

        with ThreadPoolExecutor(8) as pool:
            delivered = sum(left.chunks for left in pool.map(one, range(40)))
        _, lines = compare(worker, gateway)
        assert delivered <= sum(line["output"] for line in lines.values())
        assert any(line["unbilled"] > 0 for line in lines.values())
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0


def test_a_client_that_leaves_is_noticed_at_the_worker(start_gateway: StartGateway) -> None:
    """The abort reaches the worker, by rid, within 250 ms (p95 of 40) of the client's close."""
    body = b'{"model":"muse","stream":true,"max_tokens":400,"messages":[{"role":"user","content":"%d"}]}'
    with FakeWorker(Options(delay_ms=20)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        worker.script(Behaviour(tokens=390))
        closed = [hang_up(gateway, customer, body % number, 2500).closed for number in range(40)]
        entries = [entry for entry in worker.wait_idle() if not entry.rid.startswith("sys_")]
        assert len(entries) == 40
        assert all(entry.completion < 100 for entry in entries)
        lags = sorted((entry.aborted or math.inf) - at for entry, at in zip(entries, closed, strict=True))
        assert lags[37] <= 0.25, lags
        compare(worker, gateway)


def test_a_worker_lost_before_the_first_token_is_replaced(start_gateway: StartGateway) -> None:
    """By the other worker, once, under a new rid; the lost call's record is a failure that costs nothing."""
    with FakeWorker() as broken, FakeWorker() as sound:
        gateway = start_gateway([broken.url, sound.url])
        customer = gateway.customer()
        broken.script(Behaviour(drop_after=0), Match(route="chat"))
        answers = [ask(gateway, customer, max_tokens=10, prompt_cache_key=str(number)) for number in range(8)]
        lost, answered = broken.book("req_"), sound.book("req_")
        assert lost, "no conversation was placed on the broken worker: this run proves nothing"
        assert len(answered) == 8
        rids = {entry.rid for entry in (*lost, *answered)}
        assert len(rids) == len(lost) + 8
        lines = {line["rid"]: line for line in gateway.drained_export(len(rids))}
        assert lines.keys() == rids
        for entry in lost:
            assert lines[entry.rid]["state"] == "failed"
            assert lines[entry.rid]["amount_nano_usd"] == 0
        billed = sum(line["output"] for line in lines.values())
        assert billed == sum(answer["usage"]["completion_tokens"] for answer in answers)


def test_a_worker_lost_after_it_is_billed_and_credited(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(tokens=50, drop_after=5), Match(route="chat"))
    lines = ask(gateway, customer, stream=True, max_tokens=60)
    events = [line for line in lines if line.startswith("data: ")]
    assert '"error"' in events[-2]
    assert "engine_lost" in events[-2]
    assert events[-1] == "data: [DONE]"
    (record,) = gateway.drained_export(1)
    assert record["state"] == "interrupted"
    assert record["unbilled"] is None
    assert 0 < record["amount_nano_usd"] == record["credited_nano_usd"]
    assert gateway.balance(customer.secret)["available_nano_usd"] == before
