"""What only the limiter of many processes has to get right: exact numbers, several processes, Redis away, older or empty."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from doubles.tcp_proxy import TcpProxy, Toward
from limiters import DAY, SECOND, World, connect, new_generation, ns, opened, shared_world, shared_worlds, used
from museway_platform.limits.limiter import Admitted, HoldFault, LimiterUnavailable, Refused, Subject
from museway_platform.limits.policy import Cap, Period, RateLimit
from museway_platform.limits.shared.limiter import SharedLimiter
from museway_platform.limits.shared.trips import SCRIPT
from museway_platform.limits.spending import bounds
from redis_server import ValkeyServer, throw_away_redis

pytestmark = pytest.mark.anyio
BIG = 1 << 53
RICH = Subject("org_rich", "prj_rich", "key_rich", "instant")
REUSED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def world(stack: AsyncExitStack, redis: ValkeyServer) -> World:
    return await shared_world(stack, redis.url)


def shared(world: World) -> SharedLimiter:
    assert isinstance(world.limiter, SharedLimiter)
    return world.limiter


# -- numbers


@pytest.mark.parametrize("balance", [BIG - 2, BIG - 1, BIG, BIG + 1, BIG + 3, 9 * 10**17, -BIG - 3])
async def test_a_balance_beyond_what_lua_counts_is_exact(world: World, balance: int) -> None:
    limiter = world.limiter
    await limiter.open_account("org_rich", posted=balance, sequence=0)
    limiter.set_allowance("org_rich", 7 if balance > 0 else BIG)
    if balance > 0:
        hold = await world.admit(amount=7, subject=RICH)
        assert isinstance(hold, Admitted)
        await limiter.settle(hold.hold_id, used(amount=3))
        balance -= 3
    else:
        assert isinstance(await world.admit(amount=7, subject=RICH), Refused)
    assert await limiter.posted("org_rich", sequence=1, delta=2)
    assert (await limiter.balance("org_rich")).available == balance + 2


async def test_a_large_balance_is_refused_at_its_last_nano(world: World) -> None:
    half = (1 << 52) - 1
    await world.limiter.open_account("org_rich", posted=4 * half + 3, sequence=0)
    for _ in range(4):
        assert isinstance(await world.admit(amount=half, subject=RICH), Admitted)
    refused = await world.admit(amount=4, subject=RICH)
    assert isinstance(refused, Refused)
    assert (refused.state.left, refused.state.held, refused.state.limit) == (3, 4 * half, 4 * half + 3)
    assert isinstance(await world.admit(amount=3, subject=RICH), Admitted)
    with pytest.raises(HoldFault):
        await world.admit(amount=half + 1, subject=RICH)


@REUSED
@given(
    capacity=st.integers(1, 10**15),
    refill=st.integers(0, 10**15),
    window_s=st.sampled_from([1, 7, 60, 3600, 86_400, 31 * 86_400]),
    steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=5),
)
@example(capacity=10**15, refill=10**15 - 1, window_s=31 * 86_400, steps=[10**6 + 1, 7 * 10**11 + 3, 999_999_999])
@example(capacity=10**15, refill=3, window_s=31 * 86_400, steps=[1, 10**12 + 1, 10**12 + 2])
async def test_buckets_neither_drift_nor_round(
    world: World, capacity: int, refill: int, window_s: int, steps: list[int]
) -> None:
    """Emptied, and again after each step: there is exactly what fractions say, and not one token more."""
    world.made += 1
    key = f"key_{world.made}"
    limit = RateLimit(metric="input_tokens", capacity=capacity, refill=refill, window_s=window_s)
    await world.limit(limit, scope_id=key)
    subject = Subject("org_1", "prj_1", key, "instant")
    assert isinstance(await world.admit(n=capacity, subject=subject), Admitted)
    level = Fraction(0)
    for passed_us in steps:
        world.ns += passed_us * 1000
        level = min(Fraction(capacity), level + Fraction(passed_us * refill, window_s * 1_000_000))
        whole = level // 1
        assert isinstance(await world.admit(n=whole + 1, subject=subject), Refused)
        assert isinstance(await world.admit(n=whole, subject=subject), Admitted)
        level -= whole


@REUSED
@given(at=st.integers(SECOND, 400 * 365 * DAY), period=st.sampled_from(["day", "week", "month", "total"]))
@example(at=ns(2100, 2, 28, 23, 59, 59), period="month")
@example(at=ns(2100, 3, 1), period="month")
@example(at=ns(2100, 3, 31), period="month")
@example(at=ns(2000, 2, 29), period="month")
async def test_periods_are_the_calendars(world: World, at: int, period: Period) -> None:
    world.noon, world.ns = at - at % 1000, 0
    world.made += 1
    key = f"key_{world.made}"
    await world.limit(caps=(Cap(period=period, amount_nano_usd=10),), scope_id=key)
    (state, _) = await world.limiter.states(Subject("org_1", "prj_1", key, "instant"))
    end = bounds(period, world.noon)[1]
    assert state.resets_at == (None if period == "total" else end / SECOND)


# -- several processes


async def test_two_processes_never_spend_the_same_nano(stack: AsyncExitStack, redis: ValkeyServer) -> None:
    worlds = await shared_worlds(stack, redis.url, 2)
    for world in worlds:
        await world.limit(RateLimit(metric="concurrent_requests", capacity=30))
    answers = await asyncio.gather(*(worlds[n % 2].admit(amount=90) for n in range(60)))
    assert sum(isinstance(answer, Admitted) for answer in answers) == 11
    refused = next(answer for answer in answers if isinstance(answer, Refused))
    assert (refused.state.metric, refused.state.left, refused.state.held) == ("credit", 10, 990)
    assert isinstance(await worlds[1].admit(amount=10), Admitted)
    for world in worlds:
        assert (await world.limiter.balance("org_1")).available == 0
        assert (await world.state("concurrent_requests")).used == 12


async def test_a_cap_that_one_process_hears_of_later_counts_what_it_admits_meanwhile(
    stack: AsyncExitStack, redis: ValkeyServer
) -> None:
    early, late = await shared_worlds(stack, redis.url, 2)
    await early.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    hold = await late.held(amount=60)
    assert (await early.refused(amount=41)).state.metric == "spend"
    await late.limiter.settle(hold, used(amount=50))
    assert (await early.state("spend")).used == 50


async def test_money_is_told_by_any_of_them(stack: AsyncExitStack, redis: ValkeyServer) -> None:
    one, other = await shared_worlds(stack, redis.url, 2)
    assert await one.limiter.posted("org_1", sequence=2, delta=20)
    assert not await other.limiter.posted("org_1", sequence=2, delta=20)
    assert shared(other).sequence("org_1") == 0
    assert await other.limiter.posted("org_1", sequence=1, delta=1)
    assert not await one.limiter.posted("org_1", sequence=1, delta=1)
    assert shared(one).sequence("org_1") == 2
    assert (await one.limiter.balance("org_1")).posted == 1021


async def test_a_dead_processs_holds_end_by_what_the_ledger_has(stack: AsyncExitStack, redis: ValkeyServer) -> None:
    dead, alive = await shared_worlds(stack, redis.url, 2)
    billed, nothing = await dead.held(amount=100), await dead.held(amount=50)
    done = await dead.held(amount=5)
    await dead.limiter.settle(done, used(amount=4))  # drained, and nobody was told
    peer = shared(alive)
    assert sorted(await peer.orphans("org_1", "journal_1")) == sorted([billed, nothing])
    await peer.end_orphan("org_1", billed, used(amount=70))
    await peer.end_orphan("org_1", billed, used(amount=70))
    await peer.end_orphan("org_1", nothing, used())
    await peer.forget("org_1", "journal_1")
    said = await peer.balance("org_1")
    assert (said.available, said.held, said.posted, said.undrained) == (926, 0, 926, 0)
    # It was only asleep: what it says now changes nothing.
    assert isinstance(await shared(dead).extend(billed, amount=1, output_tokens=0), Refused)
    await dead.limiter.settle(billed, used(amount=99))
    await dead.limiter.release(nothing)
    with pytest.raises(LimiterUnavailable):
        await dead.admit(amount=1)
    said = await peer.balance("org_1")
    assert (said.available, said.held) == (926, 0)


async def test_what_is_drained_is_told_in_sum(world: World) -> None:
    await world.limiter.settle(await world.held(amount=100), used(amount=100))
    await world.limiter.drained("org_1", 30)
    shared(world).own.open()  # as after a break: everything is told again
    await world.limiter.drained("org_1", 20)
    said = await world.limiter.balance("org_1")
    assert (said.available, said.posted, said.undrained) == (900, 950, 50)


# -- what breaks


async def test_an_admission_that_is_cancelled_leaves_nothing(world: World) -> None:
    for turns in range(6):
        # tidy: allow task: cancelled and awaited in the next lines
        asked = asyncio.get_running_loop().create_task(world.admit(amount=100))
        for _ in range(turns):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    assert (await world.limiter.balance("org_1")).held == 0
    assert shared(world).holds_open == 0


@pytest.mark.parametrize(
    (
        "toward",
        "already",
    ),  # about what passes before the first operation: the script, and what the server says of itself
    [(Toward.SERVER, len(SCRIPT)), (Toward.CLIENT, 4000)],
)
async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(
    stack: AsyncExitStack, redis: ValkeyServer, toward: Toward, already: int
) -> None:
    """Questions or answers are lost; what was asked may have been done or not. Afterwards the account says what this side
    believes."""
    proxy = await stack.enter_async_context(TcpProxy(redis.url))
    world = await shared_world(stack, proxy.url)
    limiter, left, open_holds = shared(world), 1000, set[str]()

    async def one(amount: int) -> None:
        nonlocal left
        try:
            hold = await world.held(amount=amount)
        except LimiterUnavailable:
            return
        open_holds.add(hold)
        await limiter.extend(hold, amount=1, output_tokens=0)
        if amount % 3:
            open_holds.discard(hold)
            await limiter.settle(hold, used(amount=amount - 1))
            left -= amount - 1

    refused = 0
    for cut_after in range(already, already + 8000, 97):
        proxy.faults.cut_after[toward] = cut_after
        await asyncio.gather(*(one(amount) for amount in range(1, 8)))
        proxy.faults.cut_after.clear()
        refused += limiter.loss.is_set()
        limiter.loss.clear()
        limiter.shut()
        await connect(stack, proxy.url, limiter, limiter.generation)
        opened(limiter)
        for hold in open_holds:
            await limiter.release(hold)
        open_holds.clear()
        said = await limiter.balance("org_1")
        assert (said.available, said.held, limiter.holds_open) == (left, 0, 0), cut_after
        await limiter.posted("org_1", sequence=limiter.sequence("org_1") + 1, delta=1000 - left)
        left = 1000
    assert 10 < refused < 80, "the cuts were never where something happens"


async def test_while_redis_is_away_nothing_begins_and_nothing_is_lost(stack: AsyncExitStack) -> None:
    with throw_away_redis() as redis:
        world = await shared_world(stack, redis.url)
        ended, running = await world.held(amount=100), await world.held(amount=50)
        redis.save()
        redis.kill()
        for _ in range(2):
            with pytest.raises(LimiterUnavailable):
                await world.admit(amount=1)
        assert isinstance(await world.limiter.extend(running, amount=1, output_tokens=0), Refused)
        assert await world.limiter.settle(ended, used(amount=60))
        await world.limiter.drained("org_1", 60)
        with pytest.raises(LimiterUnavailable):
            await world.limiter.balance("org_1")
        redis.start()
        await connect(stack, redis.url, shared(world), shared(world).generation)
        opened(shared(world))
        said = await world.limiter.balance("org_1")
        assert (said.available, said.held, said.posted, said.undrained) == (890, 50, 940, 0)
        assert await world.limiter.settle(running, used(amount=50))
        assert (await world.limiter.balance("org_1")).available == 890


async def test_a_redis_that_does_not_answer_is_away(stack: AsyncExitStack) -> None:
    with throw_away_redis() as redis:
        world = await shared_world(stack, redis.url)
        redis.pause()
        with pytest.raises(LimiterUnavailable):
            await asyncio.wait_for(world.admit(amount=1), 5)
        assert shared(world).loss.is_set()
        redis.resume()


async def test_an_older_state_is_noticed(stack: AsyncExitStack) -> None:
    with throw_away_redis() as redis:
        world = await shared_world(stack, redis.url)
        redis.save()
        await world.held(amount=100)
        redis.kill()
        redis.start()
        await connect(stack, redis.url, shared(world), shared(world).generation)
        opened(shared(world))
        with pytest.raises(LimiterUnavailable):
            await world.admit(amount=1)
        assert shared(world).lost is not None


async def test_new_counters_are_told_what_the_processes_know(stack: AsyncExitStack, redis: ValkeyServer) -> None:
    worlds = await shared_worlds(stack, redis.url, 2)
    gate = RateLimit(metric="concurrent_requests", capacity=3)
    cap = Cap(period="day", amount_nano_usd=500)
    holds: list[str] = []
    for number, world in enumerate(worlds, start=1):
        await world.limit(gate, caps=(cap,))
        holds.append(await world.held(amount=100 * number))
        await world.limiter.settle(await world.held(amount=20), used(amount=10))
        await world.limiter.drained("org_1", 4)
    redis.empty()
    generation = new_generation()
    for world in worlds:
        await connect(stack, redis.url, shared(world), generation)
        for _ in range(2):  # told twice is told once
            await shared(world).own.contribute()
    for world in worlds:
        opened(shared(world))
        await world.limiter.open_account("org_1", posted=1000 - 8, sequence=0)  # the ledger: what was drained is off
        await world.limit(gate, caps=(cap,))
    for world in worlds:
        said = await world.limiter.balance("org_1")
        assert (said.available, said.held, said.posted, said.undrained) == (680, 300, 992, 12)
        assert (await world.state("concurrent_requests")).used == 2
        assert (await world.state("spend")).held == 300
    for number, world in enumerate(worlds, start=1):
        await world.limiter.settle(holds[number - 1], used(amount=50))
    assert (await worlds[0].limiter.balance("org_1")).available == 880


async def test_a_process_of_an_older_counting_is_turned_away(stack: AsyncExitStack, redis: ValkeyServer) -> None:
    late, early = await shared_worlds(stack, redis.url, 2)
    await connect(stack, redis.url, shared(early), new_generation())
    opened(shared(early))
    await early.limiter.open_account("org_1", posted=10, sequence=0)
    with pytest.raises(LimiterUnavailable):
        await late.admit(amount=1)
    assert shared(late).lost is not None
    # Nor one that has never asked, and so has nothing to compare.
    new = SharedLimiter("journal_3")
    # tidy: allow task: cancelled by the stack, in the next line
    stack.callback(asyncio.get_running_loop().create_task(new.run()).cancel)
    await connect(stack, redis.url, new, shared(late).generation)
    opened(new)
    with pytest.raises(LimiterUnavailable):
        await new.open_account("org_1", posted=1000, sequence=0)
    assert (await early.limiter.balance("org_1")).available == 10
