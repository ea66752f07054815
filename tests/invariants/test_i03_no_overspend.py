"""I3: nothing is delivered that no hold covers; a balance is never overdrawn under concurrency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway
from invariants.ledgerbook import compare, money

MESSAGES = [{"role": "user", "content": "Tell me of the sea."}]


def test_fifty_at_once_on_a_balance_for_ten(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    balance = 10 * 100 * 1_250  # ten answers of 100 tokens at the dearest price of the seeded book, roughly
    customer = gateway.customer(nano_usd=balance)
    fake_worker.script(Behaviour(tokens=300))

    def one(_: int) -> int:
        with gateway.client(customer.secret) as client:
            body = {"model": "muse", "messages": MESSAGES, "max_tokens": 100}
            return client.post("/v1/chat/completions", json=body).status_code

    with ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(one, range(50)))
    assert set(statuses) <= {200, 402}
    assert statuses.count(402) > 0
    assert statuses.count(200) > 0
    _, lines = compare(fake_worker, gateway)
    left = gateway.balance(customer.secret)
    assert left["available_nano_usd"] == balance - money(lines) >= 0
    assert left["held_nano_usd"] == 0


def test_a_stream_ends_where_its_credit_ends(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    """`finish_reason: length`, `budget_exhausted`, billed for what was delivered; most of a small balance is used."""
    gateway = start_gateway([fake_worker.url])
    balance = 2_000_000
    customer = gateway.customer(nano_usd=balance)
    fake_worker.script(Behaviour(tokens=6000))
    with gateway.client(customer.secret) as client:
        body = {"model": "muse", "messages": MESSAGES, "max_tokens": 7000, "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line for line in answer.iter_lines() if line]
    assert '"finish_reason":"length"' in lines[-2]
    assert "budget_exhausted" in lines[-2]
    _, records = compare(fake_worker, gateway)
    left = gateway.balance(customer.secret)["available_nano_usd"]
    assert 0 <= left == balance - money(records)
    assert left < balance * 13 // 1000


def test_a_second_process_on_one_database_is_refused(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    """Limits and holds live in one process: two of them would each spend the whole balance."""
    first = start_gateway([fake_worker.url])
    second = start_gateway([fake_worker.url], ready=False, drain_s="0")
    second.until(lambda: "another gateway process serves this database" in second.log.read_text(), within_s=30)
    customer = first.customer()
    with first.client(customer.secret) as client:
        assert client.post("/v1/chat/completions", json={"model": "muse", "messages": MESSAGES}).status_code == 200
    second.kill()


def test_max_cost_is_never_passed(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=500))
    with gateway.client(customer.secret) as client:
        for mode in ("instant", "thinking", "contemplating"):
            body = {"model": "muse", "messages": MESSAGES, "mode": mode}
            quote = client.post("/v1/quote", json=body).json()[mode]
            for limit in (quote["worst"], quote["worst"] * 2 // 3, quote["worst"] // 3):
                answer = client.post("/v1/chat/completions", json={**body, "max_cost_nano_usd": limit})
                if answer.status_code == 200:
                    assert answer.json()["museway"]["cost_nano_usd"] <= limit, mode
                else:
                    assert answer.status_code == 400, answer.text
                    assert answer.json()["error"]["code"] == "max_cost_too_low"
            too_little = client.post("/v1/chat/completions", json={**body, "max_cost_nano_usd": 1})
            assert too_little.status_code == 400
    compare(fake_worker, gateway)
