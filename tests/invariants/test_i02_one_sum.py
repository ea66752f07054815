"""I2: per customer and period, to the nano-dollar: usage = credit used + receivable, and receivable = what is exported."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest

from calls import WORKER, identity
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.ledger import GrantKind
from museway_billing.ledger.store import balance, grant
from museway_billing.meter import Meter
from museway_billing.money import NanoUsd
from museway_billing.prices.store import seed
from museway_billing.reconcile import reconcile
from museway_billing.usage import State
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio

CUSTOMERS = ["org_a", "org_b", "org_c"]
MODES = ["instant", "thinking", "contemplating"]


async def traffic(journal: Journal, random: Random, numbers: range) -> dict[str, int]:
    """Calls of all kinds and endings; what each customer has to pay for them."""
    owed = dict.fromkeys(CUSTOMERS, 0)
    for number in numbers:
        request, mode = number - number % 3, MODES[number // 3 % len(MODES)]
        call = identity(number, organization=CUSTOMERS[request % 7 % 3], mode=mode, request=request)
        slot = journal.open_slot(call)
        slot.dispatched(WORKER)
        meter = Meter(call)
        reported = (random.randint(1, 5000), 0, random.randint(0, 3000), random.randint(0, 3000))
        meter.prompt(reported[0], random.randint(0, reported[0]))
        meter.delivered(random.randint(0, reported[2]), random.randint(0, reported[3]))
        made = meter.finish(
            random.choice(list(State)),
            random.choice([reported, None]),
            worker=WORKER,
            ended=call.created + 1,
            credit=random.random() < 0.1,
            stopped=random.random() < 0.3,
        )
        owed[made.organization] += made.amount_nano_usd - made.credited_nano_usd
        await journal.append(made)
        slot.free()
    return owed


@pytest.mark.parametrize("seed_number", range(3))
async def test_one_sum(pool: Pool, tmp_path: Path, seed_number: int) -> None:
    random = Random(seed_number)
    told: dict[str, int] = {}

    async def drained(amounts: Mapping[str, NanoUsd]) -> None:
        for organization, amount in amounts.items():
            told[organization] = told.get(organization, 0) + amount

    async def granting() -> dict[str, int]:
        given = dict.fromkeys(CUSTOMERS, 0)
        for number in range(30):
            organization, amount = random.choice(CUSTOMERS), random.randint(1, 3_000_000)
            async with pool.acquire() as connection, connection.transaction():
                kind = random.choice(list(GrantKind))
                await grant(connection, organization, NanoUsd(amount), f"txn_{number}", kind)
            given[organization] += amount
        return given

    async with pool.acquire() as connection, connection.transaction():
        await seed(connection)
    journals = [await Journal.open(tmp_path, process=name) for name in ("one", "two")]
    drains = [Drain(pool, journal, host="h", on_drained=drained) for journal in journals]
    async with asyncio.TaskGroup() as background:
        running = [background.create_task(drain.run()) for drain in drains]
        given, *owed = await asyncio.gather(
            granting(), *(traffic(journal, random, range(n * 300, n * 300 + 300)) for n, journal in enumerate(journals))
        )
        for task in running:
            task.cancel()
    for drain, journal in zip(drains, journals, strict=True):
        await drain.close()
        await journal.close()

    async with pool.acquire() as connection:
        report = await reconcile(connection, journals=tmp_path)
        assert report.ok, report.differences
        assert report.records == 600
        for sums in report.sums:
            due = sum(part[sums.organization] for part in owed)
            assert sums.usage - sums.credited == sums.credit_used + sums.receivable == due == told[sums.organization]
            assert sums.receivable == sums.exported
            now = await balance(connection, sums.organization)
            assert now.posted == given[sums.organization] - due
