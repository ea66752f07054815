"""I7 with several gateway processes: a key is claimed once among them, and answered once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from customers import Customer
from doubles.tcp_proxy import TcpProxy, Toward, proxy_in_thread
from doubles.worker_process import Behaviour, FakeWorker, Options
from gateway import Gateway, StartGateway
from invariants.ledgerbook import calls
from museway import Museway, RetryPolicy
from redis_server import ValkeyServer

CHAT = "/v1/chat/completions"
LEASE_S = 15.0


@pytest.fixture
def worker() -> Iterator[FakeWorker]:
    with FakeWorker(Options(delay_ms=5)) as worker:
        yield worker


@pytest.fixture
def two(start_gateway: StartGateway, worker: FakeWorker, redis: ValkeyServer) -> tuple[Gateway, Gateway]:
    return start_gateway([worker.url], redis_url=redis.url), start_gateway([worker.url], redis_url=redis.url)


@pytest.fixture
def customer(two: tuple[Gateway, Gateway]) -> Customer:
    made = two[0].customer()
    Gateway.until(lambda: two[1].balance(made.secret)["available_nano_usd"] > 0, within_s=5)
    return made


def post(
    gateway: Gateway, customer: Customer, key: str = "k", *, last: str | None = None, **body: Any
) -> httpx2.Response:
    request = {"model": "muse", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 40, **body}
    headers = {"idempotency-key": key} if last is None else {"idempotency-key": key, "last-event-id": last}
    with gateway.client(customer.secret) as client:
        return client.post(CHAT, json=request, headers=headers)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_race(two: tuple[Gateway, Gateway], worker: FakeWorker, customer: Customer, stream: bool) -> None:
    def one(number: int) -> httpx2.Response:
        return post(two[number % 2], customer, stream=stream)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(one, range(32)))
    later = [post(gateway, customer, stream=stream) for gateway in two]
    assert {answer.status_code for answer in later} == {200}
    assert {answer.headers["idempotent-replayed"] for answer in later} == {"true"}
    answered = [answer for answer in answers if answer.status_code == 200]
    assert {answer.content for answer in answered} == {answer.content for answer in later}
    assert len({answer.content for answer in answered}) == 1
    for answer in answers:
        if answer.status_code != 200:
            assert code(answer) == (409, "request_in_progress")
            assert answer.headers["retry-after"] == "1"
    assert len(calls(worker)) == 1
    (line,) = two[0].drained_export(1)
    assert line["state"] == "complete"


def test_running_in_the_other(two: tuple[Gateway, Gateway], worker: FakeWorker, customer: Customer) -> None:
    worker.script(Behaviour(tokens=39, delay_ms=30))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, two[0], customer, stream=True)
        worker.wait_for("req_", tokens=3)
        assert code(post(two[1], customer, stream=True)) == (409, "request_in_progress")
        assert code(post(two[1], customer, stream=True, max_tokens=9)) == (422, "idempotency_key_reused")
        whole = running.result().text
    first = whole.splitlines()[0].removeprefix("id: ")
    assert post(two[1], customer, stream=True, last=first).text == whole.partition("\n\n")[2]
    assert code(post(two[1], customer, stream=True, max_tokens=9)) == (422, "idempotency_key_reused")
    assert code(post(two[1], customer, "other", stream=True, last=first)) == (409, "stream_restarted")
    assert len(calls(worker)) == 1


def cut_after(proxy: TcpProxy, size: int) -> None:
    proxy.faults.cut_after = {Toward.CLIENT: size}


def test_the_sdk_finds_the_process_that_runs_it(
    start_gateway: StartGateway, worker: FakeWorker, redis: ValkeyServer
) -> None:
    """Two processes behind one port; every connection is cut after a few events, and the next may reach the other one."""
    gateway = start_gateway([worker.url], redis_url=redis.url, processes="2")
    customer = gateway.customer()
    worker.script(Behaviour(tokens=30))
    texts: list[str] = []
    with proxy_in_thread(gateway.url) as proxy:
        proxy.do(cut_after, 2000)
        for _ in range(6):
            with (
                Museway(customer.secret, base_url=proxy.url, retry=RetryPolicy(max_retries=8, first_s=0.005)) as client,
                client.stream("Why?", max_tokens=40) as stream,
            ):
                texts.append("".join(stream.text()))
    assert texts == [entry.text for entry in calls(worker).values()]
    assert len(gateway.drained_export(6)) == 6


@pytest.mark.faults
def test_the_other_dies(two: tuple[Gateway, Gateway], worker: FakeWorker, customer: Customer) -> None:
    """Its claim lapses; the retry is a new answer, the interrupted one is given back."""
    worker.script(Behaviour(tokens=39, delay_ms=30))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, two[0], customer, stream=True)
        worker.wait_for("req_", tokens=5)
        two[0].kill()
        with pytest.raises(httpx2.HTTPError):
            running.result()
    assert code(post(two[1], customer, stream=True)) == (409, "request_in_progress")
    Gateway.until(lambda: post(two[1], customer, stream=True).status_code == 200, within_s=LEASE_S + 5)
    two[0].start()
    lines = two[1].drained_export(2)
    assert sorted(line["state"] for line in lines) == ["complete", "interrupted"]
    (interrupted,) = (line for line in lines if line["state"] == "interrupted")
    assert interrupted["credited_nano_usd"] == interrupted["amount_nano_usd"]
