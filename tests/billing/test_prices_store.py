"""The price book in PostgreSQL: what was announced stays as it was, and gateways hear of what is new."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from calls import NOW
from museway_billing.money import NanoUsdPerMtok
from museway_billing.prices import OverrideEnds, Price, PriceBook, PriceRefused, PriceVersion, default_versions
from museway_billing.prices.store import PRICES_CHANNEL, Connection, announce, load, seed
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio


def version(number: int, at: datetime, organization: str | None = None) -> PriceVersion:
    price = NanoUsdPerMtok(number)
    both = [
        Price(model=model, mode="instant", input=price, cached_input=price, reasoning=price, output=price)
        for model in ("small", "big")
    ]
    return PriceVersion(version=number, effective_from=at, organization=organization, prices=tuple(both))


async def announced(connection: Connection, one: PriceVersion, now: datetime = NOW) -> PriceBook:
    async with connection.transaction():
        return await announce(connection, one, now=now)


async def test_a_new_installation_has_the_default_book_once(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for _ in range(2):
            async with connection.transaction():
                await seed(connection)
        book = await load(connection)
        assert book.versions == PriceBook(default_versions()).versions


async def test_what_is_announced_is_loaded_back(pool: Pool) -> None:
    ends = PriceVersion(
        version=4,
        effective_from=NOW + timedelta(days=3),
        organization="org_a",
        note="back to the list",
        ends=(OverrideEnds(model="big", mode="instant"),),
    )
    async with pool.acquire() as connection:
        await announced(connection, version(2, NOW))
        await announced(connection, version(3, NOW, "org_a"))
        await announced(connection, ends)
        book = await load(connection)
    later = NOW + timedelta(days=3)
    assert [book.tariff("org_a", model, "instant", later).version for model in ("big", "small")] == [2, 3]
    assert book.versions[-1] == ends


async def test_the_same_announcement_again_is_success_and_another_is_refused(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await announced(connection, version(2, NOW))
        await announced(connection, version(2, NOW), NOW + timedelta(days=1))
        with pytest.raises(PriceRefused):
            await announced(connection, structs.replace(version(2, NOW), note="other"))
        with pytest.raises(PriceRefused):
            await announced(connection, version(3, NOW - timedelta(seconds=1)))
        assert (await load(connection)).last_version == 2


async def test_gateways_hear_of_a_new_version(pool: Pool) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard.put_nowait(payload)

    async with pool.acquire() as listener, pool.acquire() as connection:
        await listener.add_listener(PRICES_CHANNEL, hear)
        await announced(connection, version(2, NOW))
        async with asyncio.timeout(10):
            assert await heard.get() == "2"
        await listener.remove_listener(PRICES_CHANNEL, hear)
