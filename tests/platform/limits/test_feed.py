"""The feed: what is set in the database is what the limiter does, within a second and exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest

from customers import Customer, customer
from limiters import connect, opened, shared_world, shared_worlds
from museway_billing.ledger import store as ledger
from museway_billing.money import NanoUsd
from museway_platform.database.pool import Pool, open_connection
from museway_platform.database.watch import Watch
from museway_platform.identity import store as identity
from museway_platform.identity.ids import new_id
from museway_platform.limits import store
from museway_platform.limits.feed import Feed
from museway_platform.limits.limiter import Admitted, Ask, LimitState, Refused, Subject, Used
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.policy import Cap, PlanLimits, RateLimit
from museway_platform.limits.shared.limiter import SharedLimiter
from redis_server import ValkeyServer, throw_away_redis

pytestmark = pytest.mark.anyio


AnyLimiter: TypeAlias = MemoryLimiter | SharedLimiter


class Gateway:
    """A limiter of either kind, fed from a database, as the gateway does it."""

    def __init__(self, dsn: str, pool: Pool, limiter: AnyLimiter) -> None:
        self.limiter = limiter
        self.feed = Feed(self.limiter)
        self.pool = pool
        self.watch = Watch(dsn, ("museway_identity", "museway_money"), (self.feed.poll,))

    async def caught_up(self) -> None:
        await asyncio.wait_for(self.watch.caught_up(), 10)

    async def ask(self, who: Customer, *, amount: int = 0, n: int = 0) -> Admitted | Refused:
        return await self.limiter.admit(
            Ask(hold_id=new_id("hold"), subject=subject(who), input_tokens=n, output_tokens=0, amount=amount)
        )

    async def state(self, who: Customer, metric: str, scope: str) -> LimitState:
        states = await self.limiter.states(subject(who))
        return next(state for state in states if (state.metric, state.scope) == (metric, scope))


def subject(who: Customer) -> Subject:
    return Subject(who.organization.id, who.project.id, who.key, "instant")


@pytest.fixture(params=["memory", "shared"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[AnyLimiter]:
    if request.param == "memory":
        yield MemoryLimiter()
        return
    redis: ValkeyServer = request.getfixturevalue("redis_server")
    async with AsyncExitStack() as stack:
        world = await shared_world(stack, redis.url, now_us=lambda: 0)
        yield world.limiter


@asynccontextmanager
async def gateway(dsn: str, pool: Pool, limiter: AnyLimiter) -> AsyncGenerator[Gateway]:
    made = Gateway(dsn, pool, limiter)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.watch.run())
        await made.caught_up()
        try:
            yield made
        finally:
            running.cancel()


async def grant(pool: Pool, who: Customer, amount: int, txn_id: str | None = None) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await ledger.grant(connection, who.organization.id, NanoUsd(amount), txn_id or new_id("txn"))


async def rolled_up(pool: Pool, who: Customer, *, hour: datetime, amount: int, credited: int = 0) -> None:
    """As the drain writes what was used."""
    await pool.execute(
        "insert into billing.usage_rollup (hour, organization, project, key, mode, model, class, amount_nano_usd, "
        "credited_nano_usd) values ($1, $2, $3, $4, 'instant', 'muse', 'output', $5, $6)",
        hour.replace(minute=0, second=0, microsecond=0),
        who.organization.id,
        who.project.id,
        who.key,
        amount,
        credited,
    )


async def test_the_first_poll_loads_everything(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme, other = await customer(pool, plan="trial"), await customer(pool, plan="unlimited")
    await grant(pool, acme, 70)
    await grant(pool, acme, 30)
    async with pool.acquire() as connection:
        await identity.update_organization(connection, other.organization.id, allowance_nano_usd=5)
        await store.set_rate(connection, "key", acme.key, RateLimit(metric="requests", capacity=1, refill=1))
        await store.set_cap(connection, "project", acme.project.id, Cap(period="total", amount_nano_usd=60))
    async with gateway(database, pool, limiter) as gw:
        assert (await gw.limiter.balance(acme.organization.id)).posted == 100
        assert (await gw.state(acme, "requests", "organization")).limit == 60  # the plan's
        assert isinstance(refused := await gw.ask(acme, amount=61), Refused)
        assert (refused.state.kind, refused.state.scope) == ("cap", "project")
        assert isinstance(await gw.ask(acme, amount=1), Admitted)
        assert isinstance(refused := await gw.ask(acme, amount=1), Refused)
        assert (refused.state.metric, refused.state.scope_id) == ("requests", acme.key)
        assert isinstance(await gw.ask(other, amount=5), Admitted)
        assert isinstance(await gw.ask(other, amount=1), Refused)


async def test_money_arrives_exactly_once(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme = await customer(pool)
    await grant(pool, acme, 100, "txn_1")
    async with gateway(database, pool, limiter) as gw:
        await grant(pool, acme, 11)
        await grant(pool, acme, 100, "txn_1")  # the very same again
        await gw.caught_up()
        await gw.caught_up()
        assert (await gw.limiter.balance(acme.organization.id)).posted == 111


async def test_money_that_commits_late_is_not_missed(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme, other = await customer(pool), await customer(pool)
    async with gateway(database, pool, limiter) as gw, open_connection(database) as slow:
        transaction = slow.transaction()
        await transaction.start()
        await ledger.grant(slow, acme.organization.id, NanoUsd(7), "txn_slow")
        await grant(pool, other, 5)
        await gw.caught_up()
        assert (await gw.limiter.balance(other.organization.id)).posted == 5
        assert (await gw.limiter.balance(acme.organization.id)).posted == 0
        await transaction.commit()
        await gw.caught_up()
        assert (await gw.limiter.balance(acme.organization.id)).posted == 7


async def test_a_customer_made_a_moment_ago_is_introduced(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    async with gateway(database, pool, limiter) as gw:
        introduce = gw.feed.introducer(pool)
        acme = await customer(pool, plan="trial")
        await grant(pool, acme, 50)
        await introduce(acme.organization.id, acme.project.id, acme.key)
        assert isinstance(await gw.ask(acme, amount=50), Admitted)
        await gw.caught_up()
        assert (await gw.limiter.balance(acme.organization.id)).posted == 50
        assert (await gw.state(acme, "requests", "organization")).used == 1


async def test_who_is_new_here_and_paid_a_moment_ago_is_not_refused(
    database: str, pool: Pool, limiter: AnyLimiter
) -> None:
    acme = await customer(pool)
    gw = Gateway(database, pool, limiter)
    async with pool.acquire() as connection:
        await gw.feed.poll(connection)  # once; nobody listens from here on
    await grant(pool, acme, 50)
    await gw.feed.introducer(pool)(acme.organization.id, acme.project.id, acme.key)
    assert isinstance(await gw.ask(acme, amount=50), Admitted)


async def test_changes_of_limits_and_caps_arrive(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme = await customer(pool, plan="trial")
    await grant(pool, acme, 1000)
    own = RateLimit(metric="requests", capacity=7, refill=7)
    async with gateway(database, pool, limiter) as gw:
        async with pool.acquire() as connection:
            await store.set_rate(connection, "organization", acme.organization.id, own)
            await store.set_cap(connection, "key", acme.key, Cap(period="day", amount_nano_usd=10))
        await gw.caught_up()
        assert (await gw.state(acme, "requests", "organization")).limit == 7
        assert isinstance(await gw.ask(acme, amount=11), Refused)
        async with pool.acquire() as connection:
            assert await store.clear_rate(connection, "organization", acme.organization.id, "requests")
            assert not await store.clear_rate(connection, "organization", acme.organization.id, "requests")
            assert await store.clear_cap(connection, "key", acme.key, "day")
            assert not await store.clear_cap(connection, "key", acme.key, "day")
        await gw.caught_up()
        assert (await gw.state(acme, "requests", "organization")).limit == 60
        assert isinstance(await gw.ask(acme, amount=11), Admitted)


async def test_another_plan_and_another_content_of_a_plan(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme = await customer(pool, plan="trial")
    async with gateway(database, pool, limiter) as gw:
        async with pool.acquire() as connection:
            await store.set_plan(
                connection, "gold", PlanLimits(rates=(RateLimit(metric="requests", capacity=3, refill=3),))
            )
            await identity.update_organization(connection, acme.organization.id, plan="gold", allowance_nano_usd=9)
        await gw.caught_up()
        assert (await gw.state(acme, "requests", "organization")).limit == 3
        assert (await gw.state(acme, "credit", "organization")).left == 9
        assert isinstance(await gw.ask(acme, n=10**9), Admitted)  # trial's token limits are gone
        async with pool.acquire() as connection:
            await store.set_plan(
                connection, "gold", PlanLimits(rates=(RateLimit(metric="requests", capacity=5, refill=5),))
            )
        await gw.caught_up()
        state = await gw.state(acme, "requests", "organization")
        assert (state.limit, state.used) == (5, 1)


async def test_a_cap_begins_with_what_its_period_has_spent(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme, other = await customer(pool), await customer(pool)
    await grant(pool, acme, 1000)
    now = datetime.now(UTC)
    await rolled_up(pool, acme, hour=now, amount=40, credited=15)
    await rolled_up(pool, acme, hour=now - timedelta(days=40), amount=300)
    await rolled_up(pool, other, hour=now, amount=999)
    async with pool.acquire() as connection:
        await store.set_cap(connection, "project", acme.project.id, Cap(period="month", amount_nano_usd=100))
        await store.set_cap(connection, "key", acme.key, Cap(period="total", amount_nano_usd=1000))
    async with gateway(database, pool, limiter) as gw:
        assert (await gw.state(acme, "spend", "project")).used == 25
        assert (await gw.state(acme, "spend", "key")).used == 325


async def test_a_cap_set_while_usage_is_on_its_way_counts_it(database: str, pool: Pool, limiter: AnyLimiter) -> None:
    acme = await customer(pool)
    await grant(pool, acme, 1000)
    async with gateway(database, pool, limiter) as gw:
        done, running = await gw.ask(acme, amount=60), await gw.ask(acme, amount=30)
        assert isinstance(done, Admitted)
        assert isinstance(running, Admitted)
        await gw.limiter.settle(done.hold_id, Used(input_tokens=0, cached_tokens=0, output_tokens=0, amount=50))
        async with pool.acquire() as connection:
            await store.set_cap(connection, "key", acme.key, Cap(period="day", amount_nano_usd=100))
        await gw.caught_up()
        state = await gw.state(acme, "spend", "key")
        assert (state.used, state.held, state.left) == (50, 30, 20)
        async with pool.acquire() as connection:  # again, once it is in the ledger: nothing is counted twice
            await rolled_up(pool, acme, hour=datetime.now(UTC), amount=50)
            await store.set_cap(connection, "key", acme.key, Cap(period="day", amount_nano_usd=90))
        await gw.limiter.drained(acme.organization.id, 50)
        await gw.caught_up()
        assert (await gw.state(acme, "spend", "key")).left == 10


async def test_money_that_came_in_while_no_process_ran_is_brought_to_the_account(
    database: str, pool: Pool, redis: ValkeyServer
) -> None:
    acme = await customer(pool)
    await grant(pool, acme, 100)
    async with AsyncExitStack() as stack:
        before, after = await shared_worlds(stack, redis.url, 2)
        async with pool.acquire() as connection:
            await Feed(before.limiter).poll(connection)
            await grant(pool, acme, 11)
            await grant(pool, acme, 12)
            await Feed(after.limiter).poll(connection)
        for world in (before, after):
            assert (await world.limiter.balance(acme.organization.id)).posted == 123


async def test_a_limiter_that_is_away_is_told_everything_later(database: str, pool: Pool) -> None:
    acme = await customer(pool)
    await grant(pool, acme, 100)
    with throw_away_redis() as redis:
        async with AsyncExitStack() as stack, pool.acquire() as connection:
            world = await shared_world(stack, redis.url)
            assert isinstance(world.limiter, SharedLimiter)
            feed = Feed(world.limiter)
            await feed.poll(connection)
            redis.save()
            redis.kill()
            await grant(pool, acme, 11)
            await store.set_cap(connection, "key", acme.key, Cap(period="day", amount_nano_usd=10))
            await feed.poll(connection)
            await feed.introducer(pool)(acme.organization.id, acme.project.id, acme.key)  # does not wait for it
            redis.start()
            await connect(stack, redis.url, world.limiter, world.limiter.generation)
            opened(world.limiter)
            await feed.poll(connection)
            assert (await world.limiter.balance(acme.organization.id)).posted == 111
            caps = [state.limit for state in await world.limiter.states(subject(acme)) if state.kind == "cap"]
            assert caps == [10]
