"""Corrections are new entries: history stays, the money moves, limiters hear of it, and it can all be added up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from msgspec import structs

from calls import BOOK, NOW, finished, identity, record
from museway_billing.journal.store import insert_usage
from museway_billing.ledger import TransferRefused
from museway_billing.ledger.corrections import Adjustment
from museway_billing.ledger.corrections.store import adjust, correct, reserves, settle_unknown
from museway_billing.ledger.statement.store import grants
from museway_billing.ledger.store import Connection, balance, grant, lapse_expired, money_since, post_usage_batch
from museway_billing.ledger.sweep import sweep
from museway_billing.money import NanoUsd
from museway_billing.prices.store import seed
from museway_billing.reconcile import reconcile
from museway_billing.reports import UsageFilter
from museway_billing.reports.rollup import roll_up
from museway_billing.reports.store import add_rollups, usage_page
from museway_billing.usage import State, UsageRecord
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio

ORG = "org_a"
ONE = record(1).amount_nano_usd


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """At the end the books reconcile, whatever the test did, and the door told limiters what the balance says."""
    async with pool.acquire() as opened:
        async with opened.transaction():
            await seed(opened)
        yield opened
        report = await reconcile(opened)
        assert report.ok, report.differences
        for organization in (ORG, "org_b"):
            let_in = sum(row.delta for row in (await money_since(opened, 0))[0] if row.organization == organization)
            taken = await opened.fetchval(
                "select coalesce(sum(amount_nano_usd - credited_nano_usd + reserve_nano_usd), 0)::bigint"
                " from billing.usage where organization = $1",
                organization,
            )
            assert (await balance(opened, organization)).posted == let_in - taken


async def drain(connection: Connection, *records: UsageRecord) -> None:
    """As the drain does."""
    async with connection.transaction():
        inserted = await insert_usage(connection, records)
        await post_usage_batch(connection, inserted.records, batch=f"b{records[0].id}")
        await add_rollups(connection, roll_up(inserted.records, inserted.requests))


def of(amount: int, id_: str = "txn_a", organization: str = ORG) -> Adjustment:
    return Adjustment(
        id=id_, organization=organization, amount=NanoUsd(amount), subject=None, reason="a mistake of ours"
    )


async def give(connection: Connection, subject: str, amount: int | None, id_: str = "txn_c") -> int | None:
    """Correct; what was given back, None where it was there already."""
    nano = None if amount is None else NanoUsd(amount)
    async with connection.transaction():
        made = await correct(connection, ORG, subject, amount=nano, id=id_, reason="bad answer", now=NOW)
    return None if made is None else made.amount


async def exported(connection: Connection, record_id: str) -> int:
    """`credited_nano_usd` of the export."""
    page = await usage_page(
        connection,
        UsageFilter(organization=ORG),
        since=NOW - timedelta(days=1),
        until=NOW + timedelta(days=1),
        after=None,
        limit=100,
    )
    (one,) = [line for line in page if line.record.id == record_id]
    return one.record.credited_nano_usd + one.corrected


async def test_credit_given_and_taken_by_hand(connection: Connection) -> None:
    async with connection.transaction():
        assert await adjust(connection, of(100))
        assert not await adjust(connection, of(100)), "the same again is harmless"
        with pytest.raises(TransferRefused, match="amount"):
            await adjust(connection, of(101))
        assert await adjust(connection, of(-30, "txn_b"))
    now = await balance(connection, ORG)
    assert (now.credit, now.receivable, now.posted) == (70, 0, 70)


async def test_more_is_taken_than_there_is_credit_for(connection: Connection) -> None:
    async with connection.transaction():
        await adjust(connection, of(100))
        await adjust(connection, of(-130, "txn_b"))
    now = await balance(connection, ORG)
    assert (now.credit, now.receivable) == (0, 30)
    assert await connection.fetchval("select sum(amount)::bigint from billing.outbox") == 30


async def test_a_record_is_given_back_to_where_it_was_taken_from(connection: Connection) -> None:
    async with connection.transaction():
        await grant(connection, ORG, NanoUsd(ONE - 10), "txn_1")
    await drain(connection, record(1))
    assert await give(connection, record(1).id, 25) == 25
    now = await balance(connection, ORG)
    assert (now.credit, now.receivable) == (15, 0), "what was owed first, then credit"
    assert await exported(connection, record(1).id) == 25
    assert await give(connection, record(1).id, 25) is None
    assert await give(connection, record(1).id, None, "txn_d") == ONE - 25, "all that is left of it"
    assert (await balance(connection, ORG)).credit == ONE - 10
    for amount, id_ in ((1, "txn_e"), (None, "txn_f")):
        with pytest.raises(TransferRefused, match="amount"):
            await give(connection, record(1).id, amount, id_)
    stored = await connection.fetchrow("select amount_nano_usd, credited_nano_usd from billing.usage")
    assert stored is not None
    assert tuple(stored) == (ONE, 0), "history is not touched"


async def test_a_request_is_given_back_with_all_its_records(connection: Connection) -> None:
    calls = [finished(identity(number, request=7)) for number in (1, 2)]
    await drain(connection, *calls, record(3))
    assert await give(connection, calls[0].request_id, None) == 2 * ONE
    assert (await balance(connection, ORG)).receivable == ONE
    with pytest.raises(TransferRefused, match="nothing is charged"):
        await give(connection, "req_unknown", None, "txn_x")


async def test_what_policy_gave_back_is_not_given_back_again(connection: Connection) -> None:
    await drain(connection, record(1, credit=True))
    with pytest.raises(TransferRefused, match="nothing of it is charged"):
        await give(connection, record(1).id, None)


async def test_a_grant_that_has_expired_is_not_filled_again(connection: Connection) -> None:
    """The customer would lose at once what is given back."""
    async with connection.transaction():
        await grant(connection, ORG, NanoUsd(ONE + 5), "txn_1", expires=NOW - timedelta(hours=1))
    await drain(connection, record(1))
    async with connection.transaction():
        await lapse_expired(connection, ORG, now=NOW)
    assert await give(connection, record(1).id, 40) == 40
    async with connection.transaction():
        assert await lapse_expired(connection, ORG, now=NOW + timedelta(days=1)) == []
    assert (await balance(connection, ORG)).credit == 40
    assert await give(connection, record(1).id, None, "txn_d") == ONE - 40, "it counts as given back all the same"


async def test_a_grant_lapses_again_where_something_came_back_to_it_late(connection: Connection) -> None:
    """Two clocks: one says that it has expired, the other gives back to it a moment later."""
    async with connection.transaction():
        await grant(connection, ORG, NanoUsd(ONE + 5), "txn_1", expires=NOW + timedelta(hours=1))
    await drain(connection, record(1))
    for expected in (5, 40):
        async with connection.transaction():
            lapsed = await lapse_expired(connection, ORG, now=NOW + timedelta(hours=2))
        assert [transfer.amount for transfer in lapsed] == [expected]
        if expected == 5:
            assert await give(connection, record(1).id, 40) == 40


async def test_grants_are_drawn_by_priority_then_expiry_then_age(connection: Connection) -> None:
    week, year = NOW + timedelta(days=7), NOW + timedelta(days=365)
    async with connection.transaction():
        for id_, expires, priority in (
            ("txn_never", None, None),
            ("txn_year", year, None),
            ("txn_week", week, None),
            ("txn_first", None, -1),
        ):
            await grant(connection, ORG, NanoUsd(ONE), id_, expires=expires, priority=priority)
    order: list[str] = []
    for number in range(1, 5):
        await drain(connection, record(number))
        left = {one.account.split(":")[-1]: one.left for one in await grants(connection, ORG)}
        order += [id_ for id_, amount in left.items() if amount == 0 and id_ not in order]
    assert order == ["txn_first", "txn_week", "txn_year", "txn_never"]


# -- unknown counts ---------------------------------------------------------------------------------------------------

PROMPT = record(1).lines[:2]
UNKNOWN = structs.replace(
    record(1),
    reasoning=None,
    output=None,
    unbilled=None,
    state=State.UNKNOWN,
    lines=PROMPT,
    amount_nano_usd=NanoUsd(sum(line.amount_nano_usd for line in PROMPT)),
    reserve_nano_usd=NanoUsd(500_000),
)


async def lapse(pool: Pool, hours: float) -> int:
    return await sweep(pool, now=NOW + timedelta(hours=hours))


async def test_an_unknown_count_is_reserved_and_lapses_after_a_day(connection: Connection, pool: Pool) -> None:
    async with connection.transaction():
        await grant(connection, ORG, NanoUsd(1_000_000), "txn_1")
    await drain(connection, UNKNOWN)
    before = await balance(connection, ORG)
    assert (before.reserved, before.posted) == (500_000, 1_000_000 - UNKNOWN.amount_nano_usd - 500_000)
    assert before.credit == 1_000_000 - UNKNOWN.amount_nano_usd, "nothing is charged for what nobody counted"
    assert await lapse(pool, 23) == 0
    assert await lapse(pool, 24.1) == 1
    assert await lapse(pool, 48) == 0
    after = await balance(connection, ORG)
    assert (after.reserved, after.posted) == (0, before.posted + 500_000)
    with pytest.raises(TransferRefused, match="any more"):
        await settle(connection, 10)


async def settle(connection: Connection, output: int, id_: str = "txn_s") -> int | None:
    async with connection.transaction():
        return await settle_unknown(
            connection, UNKNOWN, BOOK, reasoning=0, output=output, id=id_, reason="the worker's log"
        )


@pytest.mark.parametrize(("output", "most"), [(0, 0), (10, 400_000), (10**9, 500_000)])
async def test_an_operator_says_what_it_was(connection: Connection, output: int, most: int) -> None:
    async with connection.transaction():
        await grant(connection, ORG, NanoUsd(1_000_000), "txn_1")
    await drain(connection, UNKNOWN)
    price = BOOK.tariff_of(UNKNOWN.price_version, ORG, "muse", "thinking").output
    expected = min(output * price // 1_000_000, 500_000)
    assert expected <= most
    assert await settle(connection, output) == expected
    assert await settle(connection, output) is None, "the same again is harmless"
    now = await balance(connection, ORG)
    assert (now.reserved, now.posted) == (0, 1_000_000 - UNKNOWN.amount_nano_usd - expected)
    assert await reserves(connection) == []
    (sums,) = (await reconcile(connection)).sums
    assert (sums.usage, sums.settled, sums.credit_used) == (
        UNKNOWN.amount_nano_usd,
        expected,
        UNKNOWN.amount_nano_usd + expected,
    )
