"""Limiters of both kinds with a customer and a time of their own, for tests. What holds for one holds for the other:

async def test_something(new_world: NewWorld) -> None:
    world = await new_world()
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from museway_platform.database.redis import open_redis
from museway_platform.limits.limiter import Admitted, Ask, LimitState, Refused, Scope, Subject, Used
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.policy import Cap, Policy, RateLimit
from museway_platform.limits.shared.limiter import SharedLimiter
from redis_server import ValkeyServer

SECOND = 10**9
DAY = 86_400 * SECOND
SUBJECT = Subject("org_1", "prj_1", "key_1", "instant")
_generations = itertools.count(1)


def ns(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


@dataclass
class World:
    """A limiter with an organization of credit 1,000, at noon of a Wednesday, and the time that it sees. `tick` is the
    least time that it tells apart, in nanoseconds."""

    limiter: MemoryLimiter | SharedLimiter
    ns: int = 0
    noon: int = field(default_factory=lambda: ns(2025, 1, 15, 12))
    made: int = 0
    tick: int = 1

    async def limit(
        self, *rates: RateLimit, caps: tuple[Cap, ...] = (), scope: Scope = "key", scope_id: str = "key_1"
    ) -> None:
        policy = Policy(scope=scope, scope_id=scope_id, rates=rates, caps=caps)
        await self.limiter.configure(policy, organization="org_1")

    async def admit(
        self, *, n: int = 0, out: int = 0, amount: int = 0, subject: Subject = SUBJECT
    ) -> Admitted | Refused:
        self.made += 1
        return await self.limiter.admit(
            Ask(hold_id=f"hold_{self.made}", subject=subject, input_tokens=n, output_tokens=out, amount=amount)
        )

    async def held(self, *, n: int = 0, out: int = 0, amount: int = 0) -> str:
        answer = await self.admit(n=n, out=out, amount=amount)
        assert isinstance(answer, Admitted)
        return answer.hold_id

    async def refused(self, *, n: int = 0, out: int = 0, amount: int = 0) -> Refused:
        answer = await self.admit(n=n, out=out, amount=amount)
        assert isinstance(answer, Refused)
        return answer

    async def state(self, metric: str, scope_id: str = "key_1") -> LimitState:
        states = await self.limiter.states(SUBJECT)
        return next(state for state in states if (state.metric, state.scope_id) == (metric, scope_id))


NewWorld = Callable[[], Awaitable[World]]


async def memory_world() -> World:
    limiter = MemoryLimiter(lambda: world.ns, lambda: world.noon + world.ns)
    world = World(limiter)
    await limiter.open_account("org_1", posted=1000, sequence=0)
    return world


async def shared_world(stack: AsyncExitStack, url: str, *, now_us: Callable[[], int] | None = None) -> World:
    """Over Redis, in a generation of its own: what another world left there gives way. Closed with `stack`. `now_us`: its
    time, where it is not the world's."""
    (world,) = await shared_worlds(stack, url, 1, now_us=now_us)
    return world


async def shared_worlds(
    stack: AsyncExitStack, url: str, processes: int, *, now_us: Callable[[], int] | None = None
) -> list[World]:
    """As many processes that share one account; the first one's time is everybody's."""

    def worlds_now() -> int:
        return (worlds[0].noon + worlds[0].ns) // 1000

    generation = new_generation()
    worlds: list[World] = []
    for number in range(1, processes + 1):
        limiter = SharedLimiter(f"journal_{number}", now_us=now_us or worlds_now)
        worlds.append(World(limiter, tick=1000, made=number * 1_000_000))
        # tidy: allow task: cancelled by the stack, in the next line
        running = asyncio.get_running_loop().create_task(limiter.run())
        stack.callback(running.cancel)
        await connect(stack, url, limiter, generation)
        opened(limiter)
        await limiter.open_account("org_1", posted=1000, sequence=0)
    return worlds


def new_generation() -> int:
    return next(_generations)


async def connect(stack: AsyncExitStack, url: str, limiter: SharedLimiter, generation: int) -> None:
    """As `Membership` does it."""
    server = await stack.enter_async_context(open_redis(url))
    await limiter.use(server, generation, anew=generation != limiter.generation)


def opened(limiter: SharedLimiter) -> None:
    """As `Membership` and the feed do it, once all that was known is told."""
    limiter.open()
    limiter.told()


@pytest.fixture(params=["memory", "shared"])
async def new_world(request: pytest.FixtureRequest) -> AsyncIterator[NewWorld]:
    """Makes worlds, with a limiter of one kind and then of the other."""
    if request.param == "memory":
        yield memory_world
        return
    redis: ValkeyServer = request.getfixturevalue("redis_server")
    async with AsyncExitStack() as stack:

        async def make() -> World:
            return await shared_world(stack, redis.url)

        yield make


def used(*, n: int = 0, cached: int = 0, out: int = 0, amount: int = 0) -> Used:
    return Used(input_tokens=n, cached_tokens=cached, output_tokens=out, amount=amount)
