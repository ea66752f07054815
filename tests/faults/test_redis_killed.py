"""kill -9 of Redis, with its data, with older data and without, under two gateway processes; and of one of those, too.

Nothing begins while it is away, nothing is delivered that no hold covers, and when it is back every nano is where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from doubles.worker_process import FakeWorker, Options
from faults.rest import wait_at_rest
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import Gateway, StartGateway
from redis_server import ValkeyServer, throw_away_redis

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(240, 1800))]

ROUNDS = scaled(1, 12)
REQUESTS = 80
AWAY = [re.compile(r"^(status 503|error event): .*limits_unavailable")]
"""What a client is told while Redis is away."""


@pytest.fixture
def redis() -> Iterator[ValkeyServer]:
    with throw_away_redis() as server:
        yield server


@pytest.fixture
def siege(start_gateway: StartGateway, redis: ValkeyServer) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=2)) as worker:
        settings = {"redis_url": redis.url, "recovery_interval_s": "1", "drain_s": "5"}
        yield Siege(start_gateway([worker.url], **settings), worker)


@pytest.fixture
def peer(siege: Siege) -> Gateway:
    return siege.gateway.beside()


@pytest.mark.parametrize("keeps", ["everything", "something older", "nothing"])
def test_killed_under_load(siege: Siege, peer: Gateway, redis: ValkeyServer, keeps: str) -> None:
    chance = drawn(f"Redis killed, it keeps {keeps}")
    for _ in range(ROUNDS):
        seeds = [chance.randrange(1 << 30) for _ in range(2)]
        with (
            siege.mixed(REQUESTS, seed=seeds[0], hangups=6, concurrency=12) as load,
            siege.mixed(REQUESTS, seed=seeds[1], hangups=6, concurrency=12, through=peer),
        ):
            if keeps == "something older":
                load.wait_for(answers=chance.randrange(1, 10))
                redis.save()
            load.wait_for(answers=chance.randrange(11, REQUESTS // 2))
            if keeps == "everything":
                redis.save()
            redis.kill()
            if keeps == "nothing":
                redis.forget()
            refused = load.delivered.copy
            load.wait_for(answers=len(refused()) + 3)
            redis.start()
        siege.serves()
        wait_at_rest(peer)
        siege.judge(forgiven=AWAY, overrun=True)  # what no hold covers any more is made and not delivered
        redis.forget()


def test_one_of_two_processes_killed_under_load(siege: Siege, peer: Gateway) -> None:
    """The other one serves on, and bills what it had begun."""
    chance = drawn("a peer killed")
    interrupted = 0
    for _ in range(scaled(2, 12)):
        seeds = [chance.randrange(1 << 30) for _ in range(2)]
        with (
            siege.mixed(REQUESTS, seed=seeds[0], concurrency=12),
            siege.mixed(REQUESTS, seed=seeds[1], concurrency=12, through=peer) as load,
        ):
            load.wait_for(answers=chance.randrange(1, REQUESTS // 2))
            load.enough()
            peer.kill()
        recovered(siege)
        interrupted += siege.judge(killed=True).states["interrupted"]
        peer.start()
    assert interrupted, "no call ran when the process was killed: this tested nothing"


def recovered(siege: Siege) -> None:
    """The dead process's holds have ended."""
    siege.gateway.until(lambda: siege.gateway.balance(siege.secret)["held_nano_usd"] == 0, within_s=20)
