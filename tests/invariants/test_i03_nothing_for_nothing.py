"""I1 and I3 where a request fails or a worker lies: what was not delivered is not paid, what no hold covers is not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from customers import Customer
from doubles.lying_proxy import LyingProxy
from doubles.worker_process import Behaviour, FakeWorker, Match
from gateway import Gateway, StartGateway
from invariants.ledgerbook import calls

URL = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "muse", "messages": [{"role": "user", "content": "Tell me of the sea."}]}


def ask(gateway: Gateway, customer: Customer, **extra: Any) -> tuple[int, dict[str, Any]]:
    with gateway.client(customer.secret) as client:
        answer = client.post(URL, json=BODY | extra)
    return answer.status_code, answer.json()


def spent(gateway: Gateway, customer: Customer, before: int) -> int:
    """What the balance fell by; nothing is still held."""
    balance = gateway.balance(customer.secret)
    assert balance["held_nano_usd"] == 0
    assert balance["available_nano_usd"] >= 0
    left: int = balance["available_nano_usd"]
    return before - left


def test_a_whole_answer_is_no_longer_than_its_hold(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    """Nothing can be cut from an answer in one piece: it is asked for as long as the credit covers, and delivered."""
    gateway = start_gateway([fake_worker.url])
    fake_worker.script(Behaviour(tokens=3000))
    customer = gateway.customer(nano_usd=1_000_000)
    status, answer = ask(gateway, customer, max_tokens=5000)
    assert status == 200
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert answer["museway"]["stop_reason"] == "budget_exhausted"
    (entry,) = calls(fake_worker).values()
    assert answer["usage"]["completion_tokens"] == entry.completion > 700
    assert choice["message"]["content"] == entry.text
    assert spent(gateway, customer, 1_000_000) == answer["museway"]["cost_nano_usd"]


@pytest.mark.parametrize("mode", ["instant", "thinking", "contemplating"])
def test_a_failed_request_is_free(start_gateway: StartGateway, fake_worker: FakeWorker, mode: str) -> None:
    """The last phase loses its worker: the phases before it are given back, too."""
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(drop_after=0), Match(phase="acs"))
    status, answer = ask(gateway, customer, mode=mode, max_tokens=100)
    assert status == 502, answer
    assert spent(gateway, customer, before) == 0
    lines = gateway.drained_export(1 if mode == "instant" else 2)
    assert sum(line["amount_nano_usd"] - line["credited_nano_usd"] for line in lines) == 0
    assert mode == "instant" or any(line["credited_nano_usd"] > 0 for line in lines)
    assert gateway.museway("reconcile").returncode == 0


@pytest.mark.parametrize("extra", [{"n": 4}, {"n": 16}, {"mode": "thinking"}, {"mode": "contemplating"}])
def test_a_402_is_free(start_gateway: StartGateway, fake_worker: FakeWorker, extra: dict[str, Any]) -> None:
    gateway = start_gateway([fake_worker.url])
    fake_worker.script(Behaviour(tokens=300))
    for balance in (5_000, 60_000, 300_000, 1_000_000):
        customer = gateway.customer(nano_usd=balance)
        status, answer = ask(gateway, customer, max_tokens=300, **extra)
        cost = spent(gateway, customer, balance)
        if status == 200:
            assert cost == answer["museway"]["cost_nano_usd"]
        else:
            assert status == 402, answer
            assert cost == 0


def test_a_chain_that_was_delivered_is_paid_though_the_answer_is_refused(
    start_gateway: StartGateway, fake_worker: FakeWorker
) -> None:
    """A grammar that does not compile shows only in the second call: it is no way to think for nothing."""
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(status=400, message="Failed to compile json grammar"), Match(phase="c"))
    with gateway.client(customer.secret) as client:
        body = BODY | {"mode": "thinking", "max_tokens": 100, "stream": True}
        with client.stream("POST", URL, json=body) as answer:
            events = [line for line in answer.iter_lines() if line]
    assert any("reasoning_content" in event for event in events)
    assert '"error"' in events[-2]
    assert spent(gateway, customer, before) > 0
    status, _ = ask(gateway, customer, mode="thinking", max_tokens=100)
    assert status == 400
    paid = before - gateway.balance(customer.secret)["available_nano_usd"]
    assert paid == sum(line["amount_nano_usd"] - line["credited_nano_usd"] for line in gateway.drained_export(4))


@pytest.mark.parametrize("stream", [False, True])
def test_an_inflated_prompt_is_charged_up_to_its_bound(
    start_gateway: StartGateway, fake_worker: FakeWorker, stream: bool
) -> None:
    def inflate(told: dict[str, Any]) -> None:
        if (usage := told.get("usage")) and usage.get("prompt_tokens"):
            usage["prompt_tokens"] += 2_000_000

    with LyingProxy(fake_worker.url, inflate) as liar:
        gateway = start_gateway([liar.url])
        customer = gateway.customer(nano_usd=1_000_000)
        with gateway.client(customer.secret) as client:
            assert client.post(URL, json=BODY | {"max_tokens": 20, "stream": stream}).status_code == 200
        (line,) = gateway.drained_export(1)
        assert line["measured_input"] > 2_000_000
        assert line["input"] + line["cached_input"] < 200
        assert spent(gateway, customer, 1_000_000) == line["amount_nano_usd"]


@pytest.mark.parametrize("count", [-1, 10**20])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "reasoning_tokens"])
def test_absurd_counts_lose_the_call_not_the_hold(
    start_gateway: StartGateway, fake_worker: FakeWorker, field: str, count: int
) -> None:
    def lie(told: dict[str, Any]) -> None:
        if usage := told.get("usage"):
            usage[field] = count

    with LyingProxy(fake_worker.url, lie) as liar:
        gateway = start_gateway([liar.url])
        customer = gateway.customer(nano_usd=1_000_000)
        for _ in range(2):
            status, _ = ask(gateway, customer, max_tokens=20)
            assert status == 502
        assert spent(gateway, customer, 1_000_000) == 0
        assert all(line["amount_nano_usd"] == line["credited_nano_usd"] for line in gateway.drained_export(2))


def _without_chunk_counts(told: dict[str, Any]) -> None:
    if told.get("choices"):
        told.pop("usage", None)


def _without_any_counts(told: dict[str, Any]) -> None:
    told.pop("usage", None)


@pytest.mark.parametrize("lie", [_without_chunk_counts, _without_any_counts])
def test_uncounted_text_stays_within_the_cover(
    start_gateway: StartGateway, fake_worker: FakeWorker, lie: Callable[[dict[str, Any]], None]
) -> None:
    with LyingProxy(fake_worker.url, lie) as liar:
        gateway = start_gateway([liar.url])
        fake_worker.script(Behaviour(tokens=3000))
        customer = gateway.customer(nano_usd=400_000)
        with gateway.client(customer.secret) as client:
            body = BODY | {"max_tokens": 5000, "stream": True}
            with client.stream("POST", URL, json=body) as answer:
                chunks = [line for line in answer.iter_lines() if '"content":"' in line and '"content":""' not in line]
        assert len(chunks) < 400  # 400,000 nano-USD cover fewer than 400 tokens
        spent(gateway, customer, 400_000)


def test_agents_that_ignore_their_maximum_are_stopped(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=6000, overrun=5000, delay_ms=1), Match(phase="t"))
    options = {"mode": "contemplating", "contemplating": {"agents": 2, "agent_max_tokens": 32}, "max_tokens": 40}
    status, answer = ask(gateway, customer, **options)
    assert status == 200, answer
    agents = [entry for rid, entry in calls(fake_worker).items() if ".t" in rid]
    assert agents
    assert all(entry.completion < 1000 for entry in agents)


@pytest.mark.parametrize("mode", ["instant", "thinking", "contemplating"])
def test_a_deadline_holds_and_a_missed_one_is_free(
    start_gateway: StartGateway, fake_worker: FakeWorker, mode: str
) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(tokens=300, first_delay_ms=20_000))
    with gateway.client(customer.secret, timeout=6) as client:
        answer = client.post(URL, json=BODY | {"mode": mode, "deadline_ms": 500, "max_tokens": 100})
    assert answer.status_code == 504, answer.text
    assert spent(gateway, customer, before) == 0
