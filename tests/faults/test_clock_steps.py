"""The wall clock is set back and forth: rates don't notice, no cap's period is had twice, no price of the past comes back,
and a record ends no earlier than it began.

Injected where time is read: the limiter's two clocks, a price book's moment, a meter's `now`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from calls import identity
from faults.scale import drawn, scaled
from limiters import DAY, memory_world
from museway_billing.meter import Meter
from museway_billing.prices import PriceBook, default_versions
from museway_billing.usage import State
from museway_platform.limits.limiter import Admitted, Used
from museway_platform.limits.policy import Cap, RateLimit

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

STEPS = scaled(300, 20_000)


async def test_a_cap_is_had_once_a_period_however_the_clock_steps() -> None:
    """Set back, the clock stays in the latest period that it has seen: what is granted is at most a cap for each."""
    chance = drawn("clock steps and caps")
    world = await memory_world()
    await world.limit(caps=(Cap(period="day", amount_nano_usd=10),))
    first = latest = world.noon
    granted = 0
    for _ in range(STEPS):
        if chance.random() < 0.1:
            world.noon += chance.choice((-2 * DAY, -DAY // 24, DAY // 24, DAY // 2, DAY, DAY, 2 * DAY))
        latest = max(latest, world.noon)
        answer = await world.admit(amount=1)
        if isinstance(answer, Admitted):
            granted += 1
            await world.limiter.settle(answer.hold_id, Used(input_tokens=0, cached_tokens=0, output_tokens=0, amount=1))
    periods = latest // DAY - first // DAY + 1
    assert 10 <= granted <= 10 * periods


async def test_a_rate_does_not_read_the_wall_clock() -> None:
    chance = drawn("clock steps and rates")
    world = await memory_world()
    await world.limit(RateLimit(metric="requests", capacity=5, refill=1, window_s=1))
    granted = 0
    for _ in range(STEPS):
        world.noon += chance.randrange(-400 * DAY, 400 * DAY)
        granted += isinstance(await world.admit(), Admitted)
    assert granted == 5, "monotonic time stood still"


def test_no_price_of_the_past_comes_back() -> None:
    """A tariff is fixed when the hold is made: the book itself says the same for one moment, whenever it is asked."""
    book = PriceBook(default_versions())
    now = datetime(2026, 6, 1, tzinfo=UTC)
    later = book.tariff("org_a", "muse", "instant", now + timedelta(days=400))
    assert book.tariff("org_a", "muse", "instant", now) == book.tariff("org_a", "muse", "instant", now)
    assert later.version >= book.tariff("org_a", "muse", "instant", now).version


def test_a_record_ends_no_earlier_than_it_began() -> None:
    call = identity(1)
    meter = Meter(call)
    meter.delivered(0, 5)
    record = meter.finish(State.COMPLETE, (10, 0, 0, 5), worker="http://w", ended=call.created - 3_600_000_000)
    assert record.ended == record.created == call.created
