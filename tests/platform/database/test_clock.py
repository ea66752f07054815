from __future__ import annotations

import time

import pytest

from museway_platform.database.clock import ClockSkew
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("behind_s", [0.0, 30.0, -7200.0])
async def test_it_tells_how_far_the_server_is_ahead(pool: Pool, behind_s: float) -> None:
    skew = ClockSkew(wall=lambda: time.time() - behind_s)
    assert skew.seconds is None
    async with pool.acquire() as connection:
        await skew.poll(connection)
    assert skew.seconds == pytest.approx(behind_s, abs=2.0)  # pyright: ignore[reportUnknownMemberType]


async def test_it_asks_now_and_then(pool: Pool) -> None:
    now = 100.0
    skew = ClockSkew(wall=lambda: time.time() - now, clock=lambda: now)
    async with pool.acquire() as connection:
        await skew.poll(connection)
        first = skew.seconds
        now = 109.0
        await skew.poll(connection)
        assert skew.seconds == first
        now = 111.0
        await skew.poll(connection)
        assert skew.seconds != first
