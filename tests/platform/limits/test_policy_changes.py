"""Limits that change while requests run."""

from __future__ import annotations

import pytest

from limiters import DAY, NewWorld, used
from museway_platform.limits.fed import Spent
from museway_platform.limits.policy import Cap, PlanLimits, Policy, RateLimit, overridden
from museway_platform.limits.spending import bounds

pytestmark = pytest.mark.anyio


async def test_a_changed_limit_is_no_refill(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="requests", capacity=10, refill=0))
    for _ in range(8):
        await world.held()
    await world.limit(RateLimit(metric="requests", capacity=12, refill=0, window_s=30))
    assert (await world.state("requests")).left == 4
    await world.limit(RateLimit(metric="requests", capacity=5, refill=0, window_s=30))
    assert (await world.state("requests")).left == 0
    await world.limit()
    await world.held()


async def test_a_new_cap_knows_what_is_spent_and_held(new_world: NewWorld) -> None:
    world = await new_world()
    open_hold = await world.held(amount=20)
    start, _ = bounds("month", world.noon)
    policy = Policy(scope="project", scope_id="prj_1", caps=(Cap(period="month", amount_nano_usd=100),))
    await world.limiter.configure(policy, {"month": Spent(start, 50)}, organization="org_1")
    state = await world.state("spend", "prj_1")
    assert (state.used, state.held, state.left) == (50, 20, 30)
    await world.limiter.settle(open_hold, used(amount=20))
    state = await world.state("spend", "prj_1")
    assert (state.used, state.held) == (70, 0)
    await world.limiter.configure(policy, {"month": Spent(start, 0)}, organization="org_1")
    assert (await world.state("spend", "prj_1")).used == 70


async def test_a_new_cap_leaves_out_what_was_admitted_before_its_period(new_world: NewWorld) -> None:
    world = await new_world()
    await world.held(amount=20)
    world.ns += DAY
    await world.held(amount=3)
    await world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    assert (await world.state("spend")).held == 3


async def test_a_sum_of_another_period_is_not_taken(new_world: NewWorld) -> None:
    world = await new_world()
    start, _ = bounds("day", world.noon - DAY)
    policy = Policy(scope="project", scope_id="prj_1", caps=(Cap(period="day", amount_nano_usd=100),))
    await world.limiter.configure(policy, {"day": Spent(start, 50)}, organization="org_1")
    assert (await world.state("spend", "prj_1")).used == 0


async def test_a_gate_frees_when_its_request_ends_also_after_a_change(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="concurrent_requests", capacity=1))
    hold = await world.held()
    refused = await world.refused()
    assert (refused.state.metric, refused.retry_after_s) == ("concurrent_requests", 1.0)
    await world.limit(RateLimit(metric="concurrent_requests", capacity=2))
    await world.held()
    await world.limiter.release(hold)
    await world.held()
    assert (await world.state("concurrent_requests")).left == 0


def test_the_plans_limit_gives_way_to_the_organizations_own() -> None:
    plan = PlanLimits(
        rates=(RateLimit(metric="requests", capacity=1), RateLimit(metric="requests", capacity=2, mode="thinking"))
    )
    own = RateLimit(metric="requests", capacity=9)
    assert set(overridden(plan, [own])) == {own, plan.rates[1]}
