"""What an admission and its settlement cost the gateway's process, in CPU: in process, and through Redis, gathered.

    python -m bench.limits [--requests 20000] [--waiting 64]

Real Valkey beside it; `waiting` requests are always under way, each one admission, then one settlement, of one organization
with three rate limits and a cap. CPU of this process only (the gateway's side); Redis's own is printed beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import time

import uvloop

from limiters import SUBJECT
from museway_platform.database.redis import open_redis
from museway_platform.limits.limiter import Admitted, Ask, Used
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.policy import Cap, Policy, RateLimit
from museway_platform.limits.shared.limiter import SharedLimiter
from redis_server import throw_away_redis

POLICY = Policy(
    scope="organization",
    scope_id=SUBJECT.organization,
    rates=(
        RateLimit(metric="requests", capacity=10**9, refill=10**9),
        RateLimit(metric="input_tokens", capacity=10**12, refill=10**12),
        RateLimit(metric="output_tokens", capacity=10**12, refill=10**12),
        RateLimit(metric="concurrent_requests", capacity=10**6),
    ),
    caps=(Cap(period="month", amount_nano_usd=10**15),),
)
USED = Used(input_tokens=80, cached_tokens=20, output_tokens=60, amount=700)


def cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


async def feed(limiter: MemoryLimiter | SharedLimiter) -> None:
    await limiter.open_account(SUBJECT.organization, posted=10**15, sequence=0)
    await limiter.configure(POLICY, organization=SUBJECT.organization)


async def requests(limiter: MemoryLimiter | SharedLimiter, first: int, count: int) -> None:
    for number in range(first, first + count):
        ask = Ask(hold_id=f"hold_{number:026}", subject=SUBJECT, input_tokens=100, output_tokens=256, amount=1_000)
        admitted = await limiter.admit(ask)
        assert isinstance(admitted, Admitted)
        assert await limiter.settle(ask.hold_id, USED)


async def measure(limiter: MemoryLimiter | SharedLimiter, total: int, waiting: int) -> tuple[float, float]:
    """Microseconds of CPU, and of time, for one request."""
    each = total // waiting
    await asyncio.gather(*(requests(limiter, n * 10_000, 20) for n in range(10**6, 10**6 + waiting)))  # warm
    began, at = cpu_s(), time.perf_counter()
    await asyncio.gather(*(requests(limiter, n * each, each) for n in range(waiting)))
    return (cpu_s() - began) * 1e6 / (each * waiting), (time.perf_counter() - at) * 1e6 / (each * waiting)


async def main(total: int, waiting: int) -> None:
    local = MemoryLimiter()
    await feed(local)
    cpu, _ = await measure(local, total, waiting)
    print(f"in process: {cpu:.1f} us of CPU for an admission and its settlement")
    with throw_away_redis() as redis:
        for at_once in (1, waiting):
            async with open_redis(redis.url) as server:
                shared = SharedLimiter(f"bench_{at_once}")
                running = asyncio.ensure_future(shared.run())
                await shared.use(server, at_once, anew=True)
                shared.open()
                shared.told()
                await feed(shared)
                before = redis_cpu_s(redis.ask_all("INFO cpu"))
                cpu, took = await measure(shared, total, at_once)
                theirs = (redis_cpu_s(redis.ask_all("INFO cpu")) - before) * 1e6 / total
                print(
                    f"by Redis, {at_once} waiting: {cpu:.1f} us of CPU here, {theirs:.1f} us there, {took:.1f} us passed"
                )
                running.cancel()


def redis_cpu_s(said: str) -> float:
    values = dict(line.split(":", 1) for line in said.split() if ":" in line)
    return float(values["used_cpu_user"]) + float(values["used_cpu_sys"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=64)
    chosen = parser.parse_args()
    uvloop.run(main(chosen.requests, chosen.waiting))
