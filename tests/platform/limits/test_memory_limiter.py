"""What the model test cannot say: windows of time, periods, changes of policy, faults, bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_platform.limits.limiter import Admitted, Ask, LimitState, Refused, Scope, Subject, Used
from museway_platform.limits.memory import ENDED_REMEMBERED, HoldFault, MemoryLimiter, Spent
from museway_platform.limits.policy import Cap, Period, PlanLimits, Policy, RateLimit, overridden
from museway_platform.limits.spending import bounds

pytestmark = pytest.mark.anyio

SECOND = 10**9
DAY = 86_400 * SECOND
SUBJECT = Subject("org_1", "prj_1", "key_1", "instant")


def ns(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


@dataclass
class World:
    """A limiter with an organization of credit 1,000, at noon of a Wednesday, and the time that it sees."""

    ns: int = 0
    noon: int = field(default_factory=lambda: ns(2025, 1, 15, 12))
    made: int = 0

    def __post_init__(self) -> None:
        self.limiter = MemoryLimiter(lambda: self.ns, lambda: self.noon + self.ns)
        self.limiter.open_account("org_1", posted=1000, sequence=0)

    def limit(
        self, *rates: RateLimit, caps: tuple[Cap, ...] = (), scope: Scope = "key", scope_id: str = "key_1"
    ) -> None:
        self.limiter.configure(Policy(scope=scope, scope_id=scope_id, rates=rates, caps=caps))

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


def used(*, n: int = 0, cached: int = 0, out: int = 0, amount: int = 0) -> Used:
    return Used(input_tokens=n, cached_tokens=cached, output_tokens=out, amount=amount)


# -- rates ------------------------------------------------------------------------------------------------------------


@given(
    capacity=st.integers(1, 20),
    refill=st.integers(0, 20),
    window_s=st.integers(1, 7),
    gaps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=60),
)
async def test_no_window_grants_more_than_capacity_and_refill(
    capacity: int, refill: int, window_s: int, gaps: list[int]
) -> None:
    world = World()
    world.limit(RateLimit(metric="requests", capacity=capacity, refill=refill, window_s=window_s))
    granted: list[int] = []
    for gap in gaps:
        world.ns += gap
        if isinstance(await world.admit(), Admitted):
            granted.append(world.ns)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            t = granted[last] - granted[first]
            assert (last - first + 1) * window_s * SECOND <= capacity * window_s * SECOND + refill * t


async def test_small_steps_do_not_drift() -> None:
    """A three-thousandth of a token a step: one token after exactly three thousand of them, not one earlier or later."""
    world = World()
    world.limit(RateLimit(metric="requests", capacity=1, refill=1, window_s=3))
    await world.held()
    for _ in range(3000):
        assert isinstance(await world.admit(), Refused)
        world.ns += SECOND // 1000
    await world.held()


async def test_waiting_as_told_is_enough_and_less_is_not() -> None:
    world = World()
    world.limit(
        RateLimit(metric="input_tokens", capacity=100, refill=3, window_s=7),
        RateLimit(metric="requests", capacity=1, refill=1, window_s=5),
    )
    await world.held(n=100)
    refused = await world.refused(n=50)
    assert refused.state.metric == "input_tokens"
    assert refused.retry_after_s is not None
    wait = round(refused.retry_after_s * SECOND)
    world.ns += wait - 1
    assert (await world.refused(n=50)).state.metric == "input_tokens"
    world.ns += 1
    await world.held(n=50)


async def test_no_retry_after_where_waiting_never_helps() -> None:
    world = World()
    world.limit(RateLimit(metric="output_tokens", capacity=10, refill=10))
    assert (await world.refused(out=11)).retry_after_s is None
    world.limit(RateLimit(metric="requests", capacity=1, refill=0))
    await world.held()
    assert (await world.refused()).retry_after_s is None


async def test_cached_input_and_unused_output_return_and_never_above_the_capacity() -> None:
    world = World()
    world.limit(
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


async def test_more_tokens_than_asked_are_paid_back_before_anything_is_granted() -> None:
    world = World()
    world.limit(RateLimit(metric="output_tokens", capacity=10, refill=10, window_s=10))
    await world.limiter.settle(await world.held(out=10), used(out=15))
    assert (await world.state("output_tokens")).left == 0
    world.ns += 5 * SECOND
    assert (await world.refused(out=1)).retry_after_s == 1.0


async def test_a_refused_request_takes_nothing_anywhere() -> None:
    world = World()
    world.limit(RateLimit(metric="requests", capacity=5, refill=0), RateLimit(metric="concurrent_requests", capacity=5))
    world.limit(RateLimit(metric="input_tokens", capacity=10, refill=0), scope="organization", scope_id="org_1")
    await world.refused(n=11, amount=5)
    await world.refused(n=1, amount=1001)
    assert (await world.state("requests")).left == 5
    assert (await world.state("concurrent_requests")).used == 0
    assert (await world.state("input_tokens", "org_1")).left == 10
    assert (await world.limiter.balance("org_1")).held == 0


async def test_limits_of_a_mode_are_its_alone() -> None:
    world = World()
    world.limit(
        RateLimit(metric="requests", capacity=1, refill=0, mode="thinking"),
        RateLimit(metric="concurrent_requests", capacity=0, mode="contemplating"),
    )
    thinking = Subject("org_1", "prj_1", "key_1", "thinking")
    assert isinstance(await world.admit(subject=thinking), Admitted)
    refused = await world.admit(subject=thinking)
    assert isinstance(refused, Refused)
    assert refused.state.mode == "thinking"
    assert isinstance(await world.admit(), Admitted)


async def test_headers_come_from_the_tightest_limit() -> None:
    world = World()
    world.limit(RateLimit(metric="requests", capacity=10, refill=10))
    world.limit(RateLimit(metric="requests", capacity=3, refill=3), scope="project", scope_id="prj_1")
    answer = await world.admit()
    assert isinstance(answer, Admitted)
    assert answer.requests is not None
    assert (answer.requests.scope, answer.requests.limit, answer.requests.left) == ("project", 3, 2)
    assert answer.requests.resets_at == world.noon / SECOND + 20.0
    assert answer.input_tokens is None


async def test_the_request_count_is_kept_when_a_hold_is_released() -> None:
    world = World()
    world.limit(
        RateLimit(metric="requests", capacity=2, refill=0), RateLimit(metric="input_tokens", capacity=9, refill=0)
    )
    await world.limiter.release(await world.held(n=9, amount=7))
    assert (await world.state("requests")).left == 1
    assert (await world.state("input_tokens")).left == 9
    assert (await world.limiter.balance("org_1")).available == 1000


# -- money ------------------------------------------------------------------------------------------------------------


async def test_credit_is_refused_before_rates_and_names_what_is_left() -> None:
    world = World()
    world.limit(RateLimit(metric="requests", capacity=0, refill=0))
    refused = await world.refused(amount=1001)
    assert (refused.state.metric, refused.state.left, refused.asked) == ("credit", 1000, 1001)
    assert refused.retry_after_s is None


async def test_who_is_unknown_has_no_credit_until_it_is_known() -> None:
    world = World()
    stranger = Subject("org_2", "prj_2", "key_2", "instant")
    assert isinstance(await world.admit(amount=1, subject=stranger), Refused)
    world.limiter.open_account("org_2", posted=5, sequence=1)
    assert isinstance(await world.admit(amount=1, subject=stranger), Admitted)
    world.limiter.open_account("org_2", posted=500, sequence=9)
    assert (await world.limiter.balance("org_2")).posted == 5


async def test_an_allowance_lets_the_balance_fall_below_zero() -> None:
    world = World()
    world.limiter.set_allowance("org_1", 100)
    hold = await world.held(amount=1100)
    assert (await world.limiter.balance("org_1")).available == -100
    assert (await world.refused(amount=1)).state.metric == "credit"
    await world.limiter.settle(hold, used(amount=1050))
    world.limiter.set_allowance("org_1", 0)
    assert (await world.refused()).state.metric == "credit"


async def test_a_cap_of_a_day_says_when_it_frees_and_then_does() -> None:
    world = World()
    world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    await world.limiter.settle(await world.held(amount=60), used(amount=50))
    refused = await world.refused(amount=51)
    assert (refused.state.kind, refused.state.used, refused.state.left) == ("cap", 50, 50)
    assert refused.retry_after_s == 12 * 3600
    assert refused.state.resets_at == ns(2025, 1, 16) / SECOND
    world.ns += 12 * 3600 * SECOND
    await world.held(amount=100)


async def test_waiting_does_not_help_against_a_total_or_above_the_cap() -> None:
    world = World()
    world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    assert (await world.refused(amount=101)).retry_after_s is None
    world.limit(caps=(Cap(period="total", amount_nano_usd=10), Cap(period="day", amount_nano_usd=5)))
    refused = await world.refused(amount=11)
    assert (refused.retry_after_s, refused.state.resets_at) == (None, None)
    assert (await world.refused(amount=6)).retry_after_s is None


async def test_of_two_caps_the_one_that_lasts_longer_is_named() -> None:
    world = World()
    world.limit(caps=(Cap(period="day", amount_nano_usd=10),))
    world.limit(caps=(Cap(period="week", amount_nano_usd=10),), scope="project", scope_id="prj_1")
    world.limit(caps=(Cap(period="day", amount_nano_usd=10),), scope="organization", scope_id="org_1")
    await world.held(amount=10)
    refused = await world.refused(amount=1)
    assert (refused.state.scope, refused.retry_after_s) == ("project", (4 * 24 + 12) * 3600)


async def test_a_hold_counts_in_the_period_it_was_admitted_in() -> None:
    world = World()
    world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
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


async def test_more_used_than_held_is_kept_and_is_a_fault() -> None:
    world = World()
    with pytest.raises(HoldFault, match="held 10 and was settled at 11"):
        await world.limiter.settle(await world.held(amount=10), used(amount=11))
    balance = await world.limiter.balance("org_1")
    assert (balance.undrained, balance.held) == (11, 0)


async def test_one_id_is_one_hold() -> None:
    world = World()
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
    world = World()
    for _ in range(ENDED_REMEMBERED + 1):
        await world.limiter.release(await world.held())
    world.made = 0
    await world.held()  # hold_1 is forgotten
    with pytest.raises(HoldFault):
        await world.admit()  # hold_2 is not


async def test_money_is_applied_once_per_sequence_in_any_order() -> None:
    world = World()
    applied = [await world.limiter.posted("org_1", sequence=s, delta=10**s) for s in (1, 3, 1, 3, 2, 2)]
    assert applied == [True, True, False, False, True, False]
    assert (await world.limiter.balance("org_1")).posted == 1000 + 10 + 100 + 1000
    assert not await world.limiter.posted("org_unknown", sequence=1, delta=5)


async def test_recovered_usage_is_taken_off_until_it_is_drained() -> None:
    world = World()
    world.limiter.recovered("org_1", 300)
    assert (await world.limiter.balance("org_1")).available == 700
    await world.limiter.drained("org_1", 300)
    balance = await world.limiter.balance("org_1")
    assert (balance.available, balance.posted, balance.undrained) == (700, 700, 0)


# -- changes of policy ------------------------------------------------------------------------------------------------


async def test_a_changed_limit_is_no_refill() -> None:
    world = World()
    world.limit(RateLimit(metric="requests", capacity=10, refill=0))
    for _ in range(8):
        await world.held()
    world.limit(RateLimit(metric="requests", capacity=12, refill=0, window_s=30))
    assert (await world.state("requests")).left == 4
    world.limit(RateLimit(metric="requests", capacity=5, refill=0, window_s=30))
    assert (await world.state("requests")).left == 0
    world.limit()
    await world.held()


async def test_a_new_cap_knows_what_is_spent_and_held() -> None:
    world = World()
    open_hold = await world.held(amount=20)
    start, _ = bounds("month", world.noon)
    policy = Policy(scope="project", scope_id="prj_1", caps=(Cap(period="month", amount_nano_usd=100),))
    world.limiter.configure(policy, {"month": Spent(start, 50)})
    state = await world.state("spend", "prj_1")
    assert (state.used, state.held, state.left) == (50, 20, 30)
    await world.limiter.settle(open_hold, used(amount=20))
    state = await world.state("spend", "prj_1")
    assert (state.used, state.held) == (70, 0)
    world.limiter.configure(policy, {"month": Spent(start, 0)})
    assert (await world.state("spend", "prj_1")).used == 70


async def test_a_new_cap_leaves_out_what_was_admitted_before_its_period() -> None:
    world = World()
    await world.held(amount=20)
    world.ns += DAY
    await world.held(amount=3)
    world.limit(caps=(Cap(period="day", amount_nano_usd=100),))
    assert (await world.state("spend")).held == 3


async def test_a_sum_of_another_period_is_not_taken() -> None:
    world = World()
    start, _ = bounds("day", world.noon - DAY)
    policy = Policy(scope="project", scope_id="prj_1", caps=(Cap(period="day", amount_nano_usd=100),))
    world.limiter.configure(policy, {"day": Spent(start, 50)})
    assert (await world.state("spend", "prj_1")).used == 0


async def test_a_gate_frees_when_its_request_ends_also_after_a_change() -> None:
    world = World()
    world.limit(RateLimit(metric="concurrent_requests", capacity=1))
    hold = await world.held()
    refused = await world.refused()
    assert (refused.state.metric, refused.retry_after_s) == ("concurrent_requests", 1.0)
    world.limit(RateLimit(metric="concurrent_requests", capacity=2))
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


# -- periods ----------------------------------------------------------------------------------------------------------


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
