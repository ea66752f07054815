"""`museway reconcile` ends with 1 and names what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from museway_platform.database.pool import open_connection

from .conftest import Ran


def _damage(dsn: str) -> None:
    """As no program of ours can: a balance that its transfers do not explain."""

    async def run() -> None:
        async with open_connection(dsn) as connection:
            await connection.execute("update billing.account set credits = credits + 1 where kind = 'credit'")

    asyncio.run(run())


def test_a_balance_that_cannot_be_explained(museway: Callable[..., Ran], database: str) -> None:
    org = museway("orgs create Acme --json").json["id"]
    museway(f"credits grant --org {org} --usd 5")
    assert museway("reconcile").status == 0
    _damage(database)
    told = museway("reconcile")
    assert told.status == 1 and "DIFFERS balance" in told.out and org in told.out
    report = museway("reconcile --json")
    assert report.status == 1 and report.json["ok"] is False
    assert [difference["organization"] for difference in report.json["differences"]] == [org]
