"""I3 and I4 on several gateway processes that share limits through Redis: nothing is spent twice, nothing leaks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from customers import Customer
from doubles.worker_process import Behaviour, FakeWorker, Options
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare, money
from museway_billing.ledger import store as ledger
from museway_billing.money import NanoUsd
from museway_platform.database.pool import Pool
from museway_platform.identity.ids import new_id
from redis_server import ValkeyServer, throw_away_redis

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": 100}
GRANTED = 10_000_000_000
HURRIED = {"recovery_interval_s": "1"}


def ask(gateway: Gateway, secret: str) -> httpx2.Response:
    with gateway.client(secret) as client:
        return client.post("/v1/chat/completions", json=BODY)


def at_once(gateways: Sequence[Gateway], customer: Customer, times: int) -> list[httpx2.Response]:
    """So many requests at the same moment, in turn through these."""
    turns = [gateways[number % len(gateways)] for number in range(times)]
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(ask, turns, [customer.secret] * times))


def cost(gateway: Gateway, secret: str) -> int:
    """Of one request; billed to this secret."""
    answer = ask(gateway, secret)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-museway-cost-nano-usd"])


def grant(gateway: Gateway, customer: Customer, amount: int) -> None:
    async def give(pool: Pool) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await ledger.grant(connection, customer.organization.id, NanoUsd(amount), new_id("txn"))

    gateway.in_database(give)


def settled(gateways: Sequence[Gateway], customer: Customer, left: int, within_s: float = 10) -> None:
    """Every process says that this much is left, and nothing is held."""

    def so() -> bool:
        said = [gateway.balance(customer.secret) for gateway in gateways]
        return all((one.get("available_nano_usd"), one.get("held_nano_usd")) == (left, 0) for one in said)

    gateways[0].until(so, within_s=within_s)


class Stream:
    """A streamed answer, read in a thread of its own until it ends or is cut."""

    def __init__(self, gateway: Gateway, secret: str, *, max_tokens: int = 2000) -> None:
        self.lines: list[str] = []
        self.begun = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(gateway, secret, max_tokens))
        self._thread.start()
        assert self.begun.wait(20), self.lines

    def _read(self, gateway: Gateway, secret: str, max_tokens: int) -> None:
        body = {**BODY, "max_tokens": max_tokens, "stream": True}
        try:
            with gateway.client(secret) as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    if len(self.lines) > 12:
                        self.begun.set()
        except httpx2.HTTPError:
            self.lines.append("cut")
        self.begun.set()

    def end(self) -> list[str]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return [line for line in self.lines if line]


def reconciled(gateway: Gateway) -> None:
    done = gateway.museway("reconcile", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_credit_for_exactly_k_requests_is_spent_to_the_last_nano(
    start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer
) -> None:
    gateways = [start_gateway([fake_worker.url], redis_url=redis.url) for _ in range(2)]
    fake_worker.script(Behaviour(tokens=300))
    price = cost(gateways[0], gateways[0].customer().secret)
    customer = gateways[0].customer(nano_usd=7 * price)
    answers = at_once(gateways, customer, 60)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 402}, statuses
    spent = sum(int(a.headers["x-museway-cost-nano-usd"]) for a in answers if a.status_code == 200)
    settled(gateways, customer, 7 * price - spent)
    # Whoever was refused while others held it may have it now; what is left then is topped up to one whole answer.
    while (answer := ask(gateways[1], customer.secret)).status_code == 200:
        spent += int(answer.headers["x-museway-cost-nano-usd"])
    left = 7 * price - spent
    assert 0 <= left < price
    grant(gateways[0], customer, price - left)
    settled(gateways, customer, price, within_s=1)
    answer = ask(gateways[1], customer.secret)  # its hold takes the last nano; the cached prompt makes it cheaper
    assert answer.json()["usage"]["completion_tokens"] == 100
    settled(gateways, customer, price - int(answer.headers["x-museway-cost-nano-usd"]))
    compare(fake_worker, gateways[0])
    reconciled(gateways[0])


def test_money_in_reaches_every_process_once(
    start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer
) -> None:
    gateways = [start_gateway([fake_worker.url], redis_url=redis.url) for _ in range(2)]
    customer = gateways[0].customer(nano_usd=1)
    assert [ask(gateway, customer.secret).status_code for gateway in gateways] == [402, 402]
    for times in (1, 2):
        grant(gateways[0], customer, 5_000_000_000)
        settled(gateways, customer, times * 5_000_000_000 + 1, within_s=1)


def test_a_process_that_is_stopped_leaves_nothing(
    start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer
) -> None:
    first, second = [start_gateway([fake_worker.url], redis_url=redis.url) for _ in range(2)]
    customer = first.customer()
    left = GRANTED - cost(second, customer.secret)
    assert second.stop() == 0
    assert list((second.data_dir / "journal").iterdir()) == []
    settled([first], customer, left)

    async def members(pool: Pool) -> int:
        return int(await pool.fetchval("select count(*) from platform.limiter_member"))

    first.until(lambda: first.in_database(members) == 1, within_s=5)
    said = first.balance(customer.secret)
    assert (said["posted_nano_usd"], said["undrained_nano_usd"]) == (left, 0)
    reconciled(first)


@pytest.mark.faults
def test_a_killed_process_is_recovered_by_its_peer(start_gateway: StartGateway, redis: ValkeyServer) -> None:
    with FakeWorker(Options(delay_ms=5)) as worker:
        first = start_gateway([worker.url], redis_url=redis.url, **HURRIED)
        second = first.beside()
        customer = first.customer()
        worker.script(Behaviour(tokens=1500))
        streams = [Stream(second, customer.secret) for _ in range(3)]
        assert second.balance(customer.secret)["held_nano_usd"] > 0
        second.kill()
        for stream in streams:
            stream.end()
        lines = first.drained_export(3)
        assert [line["state"] for line in lines] == ["interrupted"] * 3
        settled([first], customer, GRANTED - money({line["rid"]: line for line in lines}))
        reconciled(first)


@pytest.mark.faults
def test_a_process_that_was_asleep_while_its_journal_was_claimed(
    start_gateway: StartGateway, redis: ValkeyServer
) -> None:
    """As on a file system that forgets locks. It wakes, writes nothing, and ends."""
    with FakeWorker(Options(delay_ms=5)) as worker:
        first = start_gateway([worker.url], redis_url=redis.url, **HURRIED)
        journals = first.data_dir / "journal"
        known = set(journals.iterdir())
        second = first.beside()
        (asleep,) = set(journals.iterdir()) - known
        customer = first.customer()
        worker.script(Behaviour(tokens=1500))
        streams = [Stream(second, customer.secret) for _ in range(2)]
        second.pause()
        (asleep / "lock").unlink()
        lines = first.drained_export(2)
        left = GRANTED - money({line["rid"]: line for line in lines})
        settled([first], customer, left)
        second.resume()
        for stream in streams:
            stream.end()
        second.until(lambda: "died; the process ends" in second.log.read_text(), within_s=20)
        assert {line["id"] for line in first.export()} == {line["id"] for line in lines}
        settled([first], customer, left)
        reconciled(first)


@pytest.mark.faults
@pytest.mark.parametrize("kept", [True, False], ids=["with its data", "without"])
def test_redis_is_killed_under_load(start_gateway: StartGateway, kept: bool) -> None:
    """Nothing is admitted while it is away; then everything is as it was, whatever it remembers."""
    with FakeWorker(Options(delay_ms=5)) as worker, throw_away_redis() as redis:
        gateways = [start_gateway([worker.url], redis_url=redis.url, **HURRIED) for _ in range(2)]
        customer = gateways[0].customer()
        worker.script(Behaviour(tokens=150))
        streams = [Stream(gateway, customer.secret, max_tokens=200) for gateway in gateways]
        if kept:
            redis.save()
        streams += [Stream(gateway, customer.secret, max_tokens=200) for gateway in gateways]
        redis.kill()
        for gateway in gateways:
            refused = ask(gateway, customer.secret)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
            assert refused.headers["retry-after"] == "1"
        for stream in streams:
            assert stream.end()[-1] == "data: [DONE]"
        redis.start()
        for gateway in gateways:
            gateway.until(lambda g=gateway: ask(g, customer.secret).status_code == 200, within_s=10)
        _, lines = compare(worker, gateways[0])
        settled(gateways, customer, GRANTED - money(lines))
        reconciled(gateways[0])


@pytest.mark.faults
def test_a_stream_ends_at_its_cover_while_redis_is_away(start_gateway: StartGateway) -> None:
    """More of its hold can't be asked for: what no hold covers is not delivered."""
    with FakeWorker(Options(delay_ms=5)) as worker, throw_away_redis() as redis:
        gateway = start_gateway([worker.url], redis_url=redis.url)
        customer = gateway.customer()
        worker.script(Behaviour(tokens=1900))
        stream = Stream(gateway, customer.secret)
        redis.kill()
        lines = stream.end()
        assert '"finish_reason":"length"' in lines[-2] and "budget_exhausted" in lines[-2]
        redis.start()
        gateway.until(lambda: ask(gateway, customer.secret).status_code == 200, within_s=10)
        _, records = compare(worker, gateway)
        assert min(line["output"] for line in records.values()) <= 256
        settled([gateway], customer, GRANTED - money(records))
        reconciled(gateway)


@pytest.mark.faults
def test_everything_is_killed_at_once(start_gateway: StartGateway) -> None:
    """Gateways and Redis, which comes back empty: the next start knows all from journals and ledger."""
    with FakeWorker(Options(delay_ms=5)) as worker, throw_away_redis() as redis:
        gateways = [start_gateway([worker.url], redis_url=redis.url, **HURRIED) for _ in range(2)]
        customer = gateways[0].customer()
        worker.script(Behaviour(tokens=1500))
        streams = [Stream(gateway, customer.secret) for gateway in gateways for _ in range(2)]
        for gateway in gateways:
            gateway.kill()
        redis.kill()
        for stream in streams:
            stream.end()
        redis.start()
        gateways[0].spawn()
        # The other one's journal is on another disk: until its next start nobody knows what it held.
        gateways[0].until(lambda: "limits wait for" in gateways[0].log.read_text(), within_s=20)
        ready = f"{gateways[0].direct_url}/readyz"
        gateways[0].until(lambda: httpx2.get(ready).status_code == 503, within_s=10)
        gateways[1].start()
        gateways[0].until(lambda: ask(gateways[0], customer.secret).status_code == 200, within_s=20)
        lines = gateways[0].drained_export(5)
        assert [line["state"] for line in lines].count("interrupted") == 4
        settled(gateways, customer, GRANTED - money({line["rid"]: line for line in lines}))
        reconciled(gateways[0])


def test_databases_that_share_a_redis_do_not_meet(
    start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer, other_database: str
) -> None:
    ours = start_gateway([fake_worker.url], redis_url=redis.url)
    others = start_gateway([fake_worker.url], redis_url=redis.url, database_url=other_database)
    left = {gateway: (who := gateway.customer(), GRANTED - cost(gateway, who.secret)) for gateway in (ours, others)}
    ours.stop()
    ours.start()  # connects afresh, and finds what it left
    for gateway, (customer, amount) in left.items():
        settled([gateway], customer, amount)
        assert gateway.log.read_text().count("counted anew") == 1  # when it began


def test_a_process_that_counts_for_itself_is_refused_beside_them(
    start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer
) -> None:
    first = start_gateway([fake_worker.url], redis_url=redis.url)
    second = start_gateway([fake_worker.url], ready=False, drain_s="0")
    second.until(lambda: "another gateway process serves this database" in second.log.read_text(), within_s=30)
    assert ask(first, first.customer().secret).status_code == 200
    second.kill()


def test_workers_of_one_server_share(start_gateway: StartGateway, fake_worker: FakeWorker, redis: ValkeyServer) -> None:
    gateway = start_gateway([fake_worker.url], redis_url=redis.url, processes="2")
    fake_worker.script(Behaviour(tokens=300))
    price = cost(gateway, gateway.customer().secret)
    customer = gateway.customer(nano_usd=5 * price)
    answers = at_once([gateway], customer, 40)
    spent = sum(int(a.headers["x-museway-cost-nano-usd"]) for a in answers if a.status_code == 200)
    assert 0 < spent <= 5 * price
    assert {answer.status_code for answer in answers} == {200, 402}
    with gateway.client(customer.secret) as client:
        credit = client.get("/v1/limits").json()["data"][-1]
    assert (credit["kind"], credit["left"]) == ("credit", 5 * price - spent)
    settled([gateway], customer, 5 * price - spent)
    compare(fake_worker, gateway)


@pytest.mark.faults
def test_one_worker_of_a_server_is_killed(start_gateway: StartGateway, redis: ValkeyServer) -> None:
    """Its streams break, the other's go on; the server starts another, which bills what the dead one had begun."""
    with FakeWorker(Options(delay_ms=5)) as worker:
        gateway = start_gateway([worker.url], redis_url=redis.url, processes="2", **HURRIED)
        customer = gateway.customer()
        worker.script(Behaviour(tokens=600))
        streams = [Stream(gateway, customer.secret) for _ in range(6)]
        journals = sorted((gateway.data_dir / "journal").iterdir())
        assert len(journals) == 2
        os.kill(int(journals[0].name.split("-")[1]), signal.SIGKILL)
        for stream in streams:
            stream.end()
        lines = {line["rid"]: line for line in gateway.drained_export(6)}
        assert {line["state"] for line in lines.values()} <= {"interrupted", "complete"}
        settled([gateway], customer, GRANTED - money(lines))
        reconciled(gateway)
