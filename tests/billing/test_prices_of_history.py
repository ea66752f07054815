"""I5: a record is billed under the version it was held under, however prices change before it is drained."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from calls import NOW, finished, identity, record
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.money import NanoUsd, NanoUsdPerMtok
from museway_billing.prices import Price, PriceVersion
from museway_billing.prices.store import announce, load, seed
from museway_billing.reconcile import Check, reconcile
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio


async def test_history_is_not_repriced(pool: Pool, tmp_path: Path) -> None:
    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(tmp_path, process="gateway")
    await journal.append(record(1))
    free = NanoUsdPerMtok(0)
    version = PriceVersion(
        version=2,
        effective_from=datetime.now(UTC),
        prices=(Price(model="*", mode="thinking", input=free, cached_input=free, reasoning=free, output=free),),
    )
    async with pool.acquire() as connection:
        async with connection.transaction():
            await seed(connection)
            await announce(connection, version, now=NOW)
        await journal.append(finished(identity(2)))
        await Drain(pool, journal, host="h", on_drained=told).flush()
        report = await reconcile(connection)
        assert report.ok, report.differences
        rows = await connection.fetch("select price_version, amount_nano_usd from billing.usage order by id")
        assert [tuple(row) for row in rows] == [(1, record(1).amount_nano_usd)] * 2
        book = await load(connection)
        assert book.tariff("org_a", "muse", "thinking", datetime.now(UTC)).version == 2
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute("update billing.price set output = 1 where version = 1")
    await journal.close()


async def test_a_version_that_was_changed_after_all_is_noticed(pool: Pool, tmp_path: Path) -> None:
    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(tmp_path, process="gateway")
    await journal.append(record(1))
    await Drain(pool, journal, host="h", on_drained=told).flush()
    async with pool.acquire() as connection:
        async with connection.transaction():
            await seed(connection)
        await connection.execute("set session_replication_role = replica")
        await connection.execute("update billing.price set output = output + 1 where mode = 'thinking'")
        await connection.execute("reset session_replication_role")
        report = await reconcile(connection)
        assert [difference.check for difference in report.differences] == [Check.LINES]
    await journal.close()
