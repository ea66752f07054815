"""A connection that is cut, anywhere in a stream and again and again: the SDK loses no token, doubles none, pays once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from customers import Customer
from doubles.tcp_proxy import TcpProxy, ThreadedProxy, Toward, proxy_in_thread
from doubles.worker_process import Behaviour, FakeWorker, Options
from gateway import Gateway, StartGateway
from invariants.ledgerbook import calls, compare, money
from museway import AsyncMuseway, Museway, OutputDelta, Reply, RetryPolicy
from museway.types import Mode

PATIENT = RetryPolicy(max_retries=8, first_s=0.005, most_s=0.02)
LEAST_BYTES = {"instant": 1200, "thinking": 1200, "contemplating": 2400}
"""An answer's head and the largest event, the bill. A connection that never brings one whole event brings nobody on."""
TOKENS = 14


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    with FakeWorker(Options(delay_ms=1)) as worker:
        yield worker


@pytest.fixture
def gateway(start_gateway: StartGateway, worker: FakeWorker) -> Gateway:
    return start_gateway([worker.url])


@pytest.fixture
def customer(gateway: Gateway) -> Customer:
    return gateway.customer()


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[ThreadedProxy]:
    with proxy_in_thread(gateway.url) as proxy:
        yield proxy


def cut_after(proxy: TcpProxy, size: int, by: Literal["reset", "end"]) -> None:
    """Every connection ends after so many bytes of what it answers."""
    proxy.faults.cut_after = {Toward.CLIENT: size}
    proxy.faults.cut_by = by


def read(client: Museway, mode: Mode) -> tuple[str, Reply]:
    """The text as it was given out, and the reply at the end."""
    with client.stream("Why?", mode=mode, max_tokens=60) as stream:
        text = "".join(event.text for event in stream if isinstance(event, OutputDelta))
    return text, stream.reply


@pytest.mark.parametrize("by", ["end", "reset"])
@pytest.mark.parametrize("mode", ["instant", "thinking", "contemplating"])
def test_at_every_place(
    gateway: Gateway,
    worker: FakeWorker,
    customer: Customer,
    proxy: ThreadedProxy,
    mode: Mode,
    by: Literal["reset", "end"],
) -> None:
    """Each stream over connections that end after so many bytes: at every event, and in the middle of each, in turn."""
    worker.script(Behaviour(tokens=TOKENS))
    before = gateway.balance(customer.secret)["available_nano_usd"]
    replies: list[Reply] = []
    for size in range(LEAST_BYTES[mode], LEAST_BYTES[mode] + 3000, 170):
        proxy.do(cut_after, size, by)
        with Museway(customer.secret, base_url=proxy.url, retry=PATIENT) as client:
            text, reply = read(client, mode)
        assert text == reply.text
        replies.append(reply)
    _, lines = compare(worker, gateway)
    book = calls(worker)
    assert len({line["request_id"] for line in lines.values()}) == len(replies), "a cut made a second request"
    for reply in replies:
        assert reply.request_id is not None and reply.cost is not None
        own = {rid: line for rid, line in lines.items() if line["request_id"] == reply.request_id}
        visible = [
            book[rid].text for rid, line in own.items() if line["phase"] in ("answer", "continuation", "synthesis")
        ]
        assert [text.strip() for text in visible] == [reply.text.strip()]
        assert money(own) == reply.cost.nano_usd
    assert before - gateway.balance(customer.secret)["available_nano_usd"] == money(lines)
    assert gateway.balance(customer.secret)["held_nano_usd"] == 0


@pytest.mark.anyio
async def test_on_an_event_loop(gateway: Gateway, worker: FakeWorker, customer: Customer, proxy: ThreadedProxy) -> None:
    worker.script(Behaviour(tokens=TOKENS))
    proxy.do(cut_after, LEAST_BYTES["instant"], "reset")
    async with AsyncMuseway(customer.secret, base_url=proxy.url, retry=PATIENT) as client:
        async with client.stream("Why?", max_tokens=60) as stream:
            text = "".join([piece async for piece in stream.text()])
    (entry,) = calls(worker).values()
    assert text == stream.reply.text == entry.text
    assert len(compare(worker, gateway)[1]) == 1


def test_leaving_early_stops_the_worker(start_gateway: StartGateway) -> None:
    """At once, not after the grace: the SDK cancels what it leaves."""
    with FakeWorker(Options(delay_ms=20)) as worker:
        worker.script(Behaviour(tokens=290))
        gateway = start_gateway([worker.url], resume_grace_s="60")
        customer = gateway.customer()
        with Museway(customer.secret, base_url=gateway.url) as client, client.stream("Why?", max_tokens=300) as stream:
            next(stream.text())
        (entry,) = calls(worker).values()
        assert entry.aborted is not None
        assert entry.completion < 100
        compare(worker, gateway)
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0
