"""Rates: what a window of time grants, when to come back, what returns."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiters import SECOND, NewWorld, used
from museway_platform.limits.limiter import Admitted, Refused, Subject
from museway_platform.limits.policy import RateLimit

pytestmark = pytest.mark.anyio


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    capacity=st.integers(1, 20),
    refill=st.integers(0, 20),
    window_s=st.integers(1, 7),
    gaps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=60),
)
async def test_no_window_grants_more_than_capacity_and_refill(
    new_world: NewWorld, capacity: int, refill: int, window_s: int, gaps: list[int]
) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="requests", capacity=capacity, refill=refill, window_s=window_s))
    granted: list[int] = []
    for gap in gaps:
        world.ns += gap - gap % world.tick
        if isinstance(await world.admit(), Admitted):
            granted.append(world.ns)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            t = granted[last] - granted[first]
            assert (last - first + 1) * window_s * SECOND <= capacity * window_s * SECOND + refill * t


async def test_small_steps_do_not_drift(new_world: NewWorld) -> None:
    """A three-thousandth of a token a step: one token after exactly three thousand of them, not one earlier or later."""
    world = await new_world()
    await world.limit(RateLimit(metric="requests", capacity=1, refill=1, window_s=3))
    await world.held()
    for _ in range(3000):
        assert isinstance(await world.admit(), Refused)
        world.ns += SECOND // 1000
    await world.held()


async def test_waiting_as_told_is_enough_and_less_is_not(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(
        RateLimit(metric="input_tokens", capacity=100, refill=3, window_s=7),
        RateLimit(metric="requests", capacity=1, refill=1, window_s=5),
    )
    await world.held(n=100)
    refused = await world.refused(n=50)
    assert refused.state.metric == "input_tokens"
    assert refused.retry_after_s is not None
    ticks = -(-round(refused.retry_after_s * SECOND) // world.tick)
    world.ns += (ticks - 1) * world.tick
    assert (await world.refused(n=50)).state.metric == "input_tokens"
    world.ns += world.tick
    await world.held(n=50)


async def test_no_retry_after_where_waiting_never_helps(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="output_tokens", capacity=10, refill=10))
    assert (await world.refused(out=11)).retry_after_s is None
    await world.limit(RateLimit(metric="requests", capacity=1, refill=0))
    await world.held()
    assert (await world.refused()).retry_after_s is None


async def test_cached_input_and_unused_output_return_and_never_above_the_capacity(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(
        RateLimit(metric="input_tokens", capacity=100, refill=0),
        RateLimit(metric="output_tokens", capacity=50, refill=50),
    )
    hold = await world.held(n=80, out=40)
    await world.limiter.settle(hold, used(n=30, cached=50, out=15))
    assert (await world.state("input_tokens")).left == 70
    assert (await world.state("output_tokens")).left == 35
    hold = await world.held(n=0, out=30)
    world.ns += 60 * SECOND  # full again meanwhile
    await world.limiter.settle(hold, used())
    assert (await world.state("output_tokens")).left == 50


async def test_more_tokens_than_asked_are_paid_back_before_anything_is_granted(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="output_tokens", capacity=10, refill=10, window_s=10))
    await world.limiter.settle(await world.held(out=10), used(out=15))
    assert (await world.state("output_tokens")).left == 0
    world.ns += 5 * SECOND
    assert (await world.refused(out=1)).retry_after_s == 1.0


async def test_a_refused_request_takes_nothing_anywhere(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(
        RateLimit(metric="requests", capacity=5, refill=0), RateLimit(metric="concurrent_requests", capacity=5)
    )
    await world.limit(RateLimit(metric="input_tokens", capacity=10, refill=0), scope="organization", scope_id="org_1")
    await world.refused(n=11, amount=5)
    await world.refused(n=1, amount=1001)
    assert (await world.state("requests")).left == 5
    assert (await world.state("concurrent_requests")).used == 0
    assert (await world.state("input_tokens", "org_1")).left == 10
    assert (await world.limiter.balance("org_1")).held == 0


async def test_limits_of_a_mode_are_its_alone(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(
        RateLimit(metric="requests", capacity=1, refill=0, mode="thinking"),
        RateLimit(metric="concurrent_requests", capacity=0, mode="contemplating"),
    )
    thinking = Subject("org_1", "prj_1", "key_1", "thinking")
    assert isinstance(await world.admit(subject=thinking), Admitted)
    refused = await world.admit(subject=thinking)
    assert isinstance(refused, Refused)
    assert refused.state.mode == "thinking"
    assert isinstance(await world.admit(), Admitted)


async def test_headers_come_from_the_tightest_limit(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(RateLimit(metric="requests", capacity=10, refill=10))
    await world.limit(RateLimit(metric="requests", capacity=3, refill=3), scope="project", scope_id="prj_1")
    answer = await world.admit()
    assert isinstance(answer, Admitted)
    assert answer.requests is not None
    assert (answer.requests.scope, answer.requests.limit, answer.requests.left) == ("project", 3, 2)
    assert answer.requests.resets_at == world.noon / SECOND + 20.0
    assert answer.input_tokens is None


async def test_the_request_count_is_kept_when_a_hold_is_released(new_world: NewWorld) -> None:
    world = await new_world()
    await world.limit(
        RateLimit(metric="requests", capacity=2, refill=0), RateLimit(metric="input_tokens", capacity=9, refill=0)
    )
    await world.limiter.release(await world.held(n=9, amount=7))
    assert (await world.state("requests")).left == 1
    assert (await world.state("input_tokens")).left == 9
    assert (await world.limiter.balance("org_1")).available == 1000
