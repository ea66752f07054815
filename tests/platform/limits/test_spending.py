"""Money: credit, caps and their periods, and what a hold may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiters import DAY, SECOND, NewWorld, memory_world, ns, used
from museway_platform.limits.limiter import Admitted, HoldFault, Refused, Subject
from museway_platform.limits.memory import ENDED_REMEMBERED, MemoryLimiter
from museway_platform.limits.policy import Cap, Period, RateLimit
from museway_platform.limits.spending import bounds

pytestmark = pytest.mark.anyio


async def test_credit_is_refused_before_rates_and_names_what_is_left(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="requests", capacity=0, refill=0))
    refused = await world.refused(amount=1001)
    assert (refused.state.metric, refused.state.left, refused.asked) == ("credit", 1000, 1001)
    assert refused.retry_after_s is None


async def test_who_is_unknown_has_no_credit_until_it_is_known(new_world: NewWorld) -> None:
    world = await new_world()
    stranger = Subject("org_2", "prj_2", "key_2", "instant")
    assert isinstance(await world.admit(amount=1, subject=stranger), Refused)
    await world.limiter.open_account("org_2", posted=5, sequence=1)
    assert isinstance(await world.admit(amount=1, subject=stranger), Admitted)
    await world.limiter.open_account("org_2", posted=500, sequence=9)
    assert (await world.limiter.balance("org_2")).posted == 5


async def test_an_allowance_lets_the_balance_fall_below_zero(new_world: NewWorld) -> None:
    world = await new_world()
    world.limiter.set_allowance("org_1", 100)
    hold = await world.held(amount=1100)
    assert (await world.limiter.balance("org_1")).available == -100
    assert (await world.refused(amount=1)).state.metric == "credit"
    await world.limiter.settle(hold, used(amount=1050))
    world.limiter.set_allowance("org_1", 0)
    assert (await world.refused()).state.metric == "credit"


async def test_a_cap_of_a_day_says_when_it_frees_and_then_does(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    await world.limiter.settle(await world.held(amount=60), used(amount=50))
    refused = await world.refused(amount=51)
    assert (refused.state.kind, refused.state.used, refused.state.left) == ("cap", 50, 50)
    assert refused.retry_after_s == 12 * 3600
    assert refused.state.resets_at == ns(2025, 1, 16) / SECOND
    world.ns += 12 * 3600 * SECOND
    await world.held(amount=100)


async def test_waiting_does_not_help_against_a_total_or_above_the_cap(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    assert (await world.refused(amount=101)).retry_after_s is None
    await world.limit(caps=(Cap(period="total", amount_nano_usd=10), Cap(period="day", amount_nano_usd=5)))
    refused = await world.refused(amount=11)
    assert (refused.retry_after_s, refused.state.resets_at) == (None, None)
    assert (await world.refused(amount=6)).retry_after_s is None


async def test_of_two_caps_the_one_that_lasts_longer_is_named(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(caps=(Cap(period="day", amount_nano_usd=10),))
    await world.limit(caps=(Cap(period="week", amount_nano_usd=10),), scope="project", scope_id="prj_1")
    await world.limit(caps=(Cap(period="day", amount_nano_usd=10),), scope="organization", scope_id="org_1")
    await world.held(amount=10)
    refused = await world.refused(amount=1)
    assert (refused.state.scope, refused.retry_after_s) == ("project", (4 * 24 + 12) * 3600)


async def test_a_hold_counts_in_the_period_it_was_admitted_in(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    hold = await world.held(amount=60)
    world.ns += DAY
    other = await world.held(amount=100)  # a new day, whole
    answer = await world.limiter.extend(hold, amount=40, output_tokens=0)
    assert isinstance(answer, Admitted)  # yesterday's cap still had 40
    assert isinstance(await world.limiter.extend(hold, amount=1, output_tokens=0), Refused)
    await world.limiter.settle(hold, used(amount=100))
    assert (await world.state("spend")).held == 100
    await world.limiter.settle(other, used(amount=1))
    assert (await world.state("spend")).used == 1


async def test_an_extension_takes_the_last_nano_and_no_more(new_world: NewWorld) -> None:
    world = await new_world()
    world.limiter.set_allowance("org_1", 10)
    hold, _ = await world.held(amount=300), await world.held(amount=600)
    refused = await world.limiter.extend(hold, amount=111, output_tokens=0)
    assert isinstance(refused, Refused)
    assert (refused.state.metric, refused.state.left, refused.state.held, refused.asked) == ("credit", 110, 900, 111)
    assert isinstance(await world.limiter.extend(hold, amount=110, output_tokens=0), Admitted)
    await world.limiter.release(hold)
    assert (await world.limiter.balance("org_1")).available == 400


async def test_more_used_than_held_is_kept_and_is_a_fault(new_world: NewWorld) -> None:
    world = await new_world()
    with pytest.raises(HoldFault, match="held 10 and was settled at 11"):
        await world.limiter.settle(await world.held(amount=10), used(amount=11))
    balance = await world.limiter.balance("org_1")
    assert (balance.undrained, balance.held) == (11, 0)


async def test_one_id_is_one_hold(new_world: NewWorld) -> None:
    world = await new_world()
    hold = await world.held(amount=1)
    world.made -= 1
    with pytest.raises(HoldFault):
        await world.admit()
    await world.limiter.release(hold)
    world.made -= 1
    with pytest.raises(HoldFault):
        await world.admit()
    with pytest.raises(KeyError):
        await world.limiter.extend(hold, amount=1, output_tokens=0)


async def test_what_is_remembered_of_ended_holds_is_bounded() -> None:
    world = await memory_world()
    for _ in range(ENDED_REMEMBERED + 1):
        await world.limiter.release(await world.held())
    world.made = 0
    await world.held()  # hold_1 is forgotten
    with pytest.raises(HoldFault):
        await world.admit()  # hold_2 is not


async def test_money_is_applied_once_per_sequence_in_any_order(new_world: NewWorld) -> None:
    world = await new_world()
    applied = [await world.limiter.posted("org_1", sequence=s, delta=10**s) for s in (1, 3, 1, 3, 2, 2)]
    assert applied == [True, True, False, False, True, False]
    assert (await world.limiter.balance("org_1")).posted == 1000 + 10 + 100 + 1000
    assert not await world.limiter.posted("org_unknown", sequence=1, delta=5)


async def test_recovered_usage_is_taken_off_until_it_is_drained() -> None:
    limiter = MemoryLimiter()
    await limiter.open_account("org_1", posted=1000, sequence=0)
    limiter.recovered("org_1", 300)
    assert (await limiter.balance("org_1")).available == 700
    await limiter.drained("org_1", 300)
    balance = await limiter.balance("org_1")
    assert (balance.available, balance.posted, balance.undrained) == (700, 700, 0)


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        ("day", (2025, 1, 15, 23, 59, 59), (2025, 1, 15), (2025, 1, 16)),
        ("day", (2025, 1, 16), (2025, 1, 16), (2025, 1, 17)),
        ("week", (2025, 1, 15, 12), (2025, 1, 13), (2025, 1, 20)),
        ("week", (2025, 1, 12, 23, 59), (2025, 1, 6), (2025, 1, 13)),
        ("month", (2024, 2, 29), (2024, 2, 1), (2024, 3, 1)),
        ("month", (2025, 12, 31, 23, 59), (2025, 12, 1), (2026, 1, 1)),
        ("month", (2025, 1, 1), (2025, 1, 1), (2025, 2, 1)),
    ],
)
def test_periods(period: Period, at: tuple[int, ...], start: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert bounds(period, ns(*at)) == (ns(*start), ns(*end))


@given(at=st.integers(0, 80 * 366 * DAY))
def test_every_moment_is_in_its_period_and_periods_meet(at: int) -> None:
    for period in ("day", "week", "month", "total"):
        start, end = bounds(period, at)
        assert start <= at < end
        if period != "total":
            assert bounds(period, end)[0] == end
            assert bounds(period, end - 1) == (start, end)
