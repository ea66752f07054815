"""Reconciliation finds what is wrong: each kind of damage is done once, behind the ledger's back, and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from calls import WORKER, finished, identity, record
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.ledger.corrections import Adjustment
from museway_billing.ledger.corrections.store import adjust, correct
from museway_billing.ledger.store import Connection, grant, lapse_expired
from museway_billing.money import NanoUsd
from museway_billing.prices import PriceBook, default_versions
from museway_billing.prices.store import seed
from museway_billing.reconcile import Check, Report, reconcile
from museway_billing.reconcile.record import check_record
from museway_billing.timestamp import to_datetime
from museway_billing.usage import State, UsageRecord
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio

ONE = record(1).amount_nano_usd
BOOK = PriceBook(default_versions())
UNCOUNTED = structs.replace(
    finished(identity(8, organization="org_b")),
    reasoning=None,
    output=None,
    unbilled=None,
    state=State.UNKNOWN,
    lines=record(1).lines[:2],
    amount_nano_usd=NanoUsd(sum(line.amount_nano_usd for line in record(1).lines[:2])),
    reserve_nano_usd=NanoUsd(700),
)
"""Its prompt is known and charged, what it made is not."""
PROMPT = UNCOUNTED.amount_nano_usd


def adjustment(id_: str, amount: int) -> Adjustment:
    return Adjustment(id=id_, organization="org_a", amount=NanoUsd(amount), subject=None, reason="goodwill")


@pytest.fixture
async def books(pool: Pool, tmp_path: Path) -> AsyncIterator[Connection]:
    """Books with a bit of everything, which reconcile."""

    async def told(_: object) -> None: ...

    journal = await Journal.open(tmp_path / "journal", process="gateway")
    async with pool.acquire() as connection:
        async with connection.transaction():
            await seed(connection)
            await grant(connection, "org_a", NanoUsd(3 * ONE + 7), "txn_1")
            soon = to_datetime(record(1).created) + timedelta(days=1)
            await grant(connection, "org_a", NanoUsd(5), "txn_2", expires=soon)
            await lapse_expired(connection, "org_a", now=soon + timedelta(days=1))
        for number in range(1, 7):
            await journal.append(record(number, credit=number == 2))
        await journal.append(record(7, organization="org_b"))
        await journal.append(UNCOUNTED)
        await Drain(pool, journal, host="h", on_drained=told).flush()
        await journal.close()
        async with connection.transaction():
            await adjust(connection, adjustment("txn_3", 11))
            await adjust(connection, adjustment("txn_4", -4))
            await correct(
                connection,
                "org_a",
                record(5).id,
                amount=NanoUsd(9),
                id="txn_5",
                reason="late",
                now=soon - timedelta(hours=1),
            )
        yield connection


async def damaged(connection: Connection, statement: str) -> Report:
    """What reconciliation says after somebody with all rights has changed the tables."""
    await connection.execute("set session_replication_role = replica")
    try:
        await connection.execute(statement)
    finally:
        await connection.execute("reset session_replication_role")
    return await reconcile(connection)


async def test_sound_books_reconcile(books: Connection) -> None:
    report = await reconcile(books)
    assert report.ok, report.differences
    assert (report.records, report.more, report.unknown, report.reserved) == (8, 0, 1, 700)
    a, b = report.sums
    assert (a.organization, a.records, a.usage, a.credited) == ("org_a", 6, 6 * ONE, ONE)
    assert (a.credit_used, a.receivable, a.exported) == (3 * ONE + 7, 2 * ONE - 7 - 9, 2 * ONE - 7 - 9)
    assert (a.corrected, a.adjusted) == (9, 0)
    assert (b.organization, b.usage, b.credit_used, b.receivable) == ("org_b", ONE + PROMPT, 0, ONE + PROMPT)


@pytest.mark.parametrize(
    ("statement", "checks"),
    [
        ("update billing.usage set output = output + 1 where id like '%03'", {Check.LINES}),
        ("update billing.usage set price_version = 9 where id like '%03'", {Check.LINES}),
        ("update billing.usage set unbilled = null where id like '%03'", {Check.TOKENS}),
        (
            "update billing.usage set amount_nano_usd = amount_nano_usd - 1 where id like '%03'",
            {Check.LINES, Check.POSTED, Check.PERIOD},
        ),
        (
            "delete from billing.usage where id like '%03'",
            {Check.POSTED, Check.PERIOD, Check.ROLLUP},
        ),
        (
            "delete from billing.transfer where source like '%03'",
            {Check.POSTED, Check.PERIOD, Check.BALANCE},
        ),
        (
            "update billing.transfer set amount = amount + 1 where source like '%07'",
            {Check.POSTED, Check.PERIOD, Check.EXPORTED, Check.BALANCE},
        ),
        (
            "update billing.transfer set posted = posted - interval '40 days' where source like '%07'",
            {Check.POSTED, Check.PERIOD, Check.EXPORTED},
        ),
        ("update billing.account set credits = credits + 1 where kind = 'credit' and expires is null", {Check.BALANCE}),
        ("delete from billing.outbox where organization = 'org_b'", {Check.EXPORTED}),
        ("update billing.money_in set delta = delta + 1 where sequence = 1", {Check.DOOR}),
        ("delete from billing.money_in where sequence = 1", {Check.DOOR}),
        ("update billing.money_in set sequence = 9 where sequence = 3", {Check.DOOR}),
        (
            "update billing.usage_rollup set tokens = tokens + 1 where organization = 'org_b' and class = 'output'",
            {Check.ROLLUP},
        ),
        ("update billing.usage_rollup set requests = requests + 1 where organization = 'org_b'", {Check.ROLLUP}),
        (
            "insert into billing.usage select"
            " (jsonb_populate_record(u, jsonb_build_object('created', created + interval '1 s'))).*"
            " from billing.usage u where id like '%03'",
            {Check.ONCE, Check.PERIOD, Check.ROLLUP},
        ),
        ("update billing.usage set rid = 'twice' where organization = 'org_b'", {Check.ONCE}),
        ("update billing.usage set reserve_nano_usd = 1 where id like '%08'", {Check.POSTED}),
        ("update billing.usage set reserve_nano_usd = 1 where id like '%03'", {Check.POSTED, Check.TOKENS}),
        ("delete from billing.transfer where kind = 'unknown'", {Check.POSTED}),
        ("update billing.adjustment set amount = amount + 1 where id = 'txn_3'", {Check.ADJUSTED}),
        ("delete from billing.adjustment where id = 'txn_5'", {Check.ADJUSTED}),
        (
            "update billing.transfer set amount = amount * 1000000 where kind = 'refund'",
            {Check.ADJUSTED, Check.BALANCE, Check.DOOR, Check.EXPORTED},
        ),
        ("delete from billing.usage_rollup where organization = 'org_b' and class = 'input'", {Check.ROLLUP}),
    ],
)
async def test_damage_is_named(books: Connection, statement: str, checks: set[Check]) -> None:
    report = await damaged(books, statement)
    assert not report.ok
    assert {difference.check for difference in report.differences} == checks


async def test_a_difference_names_its_record(books: Connection) -> None:
    report = await damaged(books, "delete from billing.transfer where source like '%03'")
    (posted,) = [difference for difference in report.differences if difference.check is Check.POSTED]
    assert (posted.organization, posted.id) == ("org_a", record(3).id)
    assert (posted.expected, posted.found) == (f"{ONE} less 0, reserve 0", "0 less 0, reserve 0")


async def test_what_a_dead_process_left_is_shown_and_is_no_difference(books: Connection, tmp_path: Path) -> None:
    left = tmp_path / "left"
    journal = await Journal.open(left, process="gateway")
    journal.open_slot(identity(11)).dispatched(WORKER)
    await journal.append(finished(identity(12)))
    (living,) = (await reconcile(books, journals=left)).journals
    await journal.close()
    report = await reconcile(books, journals=left)
    assert report.ok
    (dead,) = report.journals
    assert (living.alive, dead.alive) == (True, False)
    assert (dead.id, dead.records, dead.amount, dead.open_slots) == (journal.id, 1, ONE, 1)
    assert dead.holds == (identity(11).hold_id,)


async def test_a_journal_behind_postgresql_is_a_difference(books: Connection, tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path / "left", process="gateway")
    await journal.append(record(12))
    await books.execute(
        "insert into billing.journal (id, host, epoch, drained_sequence) values ($1, 'h', 1, 5)", journal.id
    )
    report = await reconcile(books, journals=tmp_path / "left")
    assert [(d.check, d.expected) for d in report.differences] == [(Check.JOURNAL, "at least 5 records")]
    await journal.close()


@pytest.mark.parametrize(
    "broken",
    [
        structs.replace(record(1), state=State.FAILED),
        structs.replace(record(1), output=None),
        structs.replace(record(1), unbilled=None),
        structs.replace(record(1), credited_nano_usd=NanoUsd(ONE + 1)),
        structs.replace(record(1), lines=record(1).lines[1:]),
        structs.replace(record(1), mode="other"),
        structs.replace(record(1), price_version=2),
    ],
)
def test_a_record_that_contradicts_itself_is_seen(broken: UsageRecord) -> None:
    assert list(check_record(record(1), BOOK)) == []
    assert list(check_record(broken, BOOK)) != []
