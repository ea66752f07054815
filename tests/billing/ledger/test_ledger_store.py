"""The ledger in a real PostgreSQL: balanced, append-only, idempotent by id, one door for money that comes in."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest
from msgspec import Struct

from calls import NOW, record
from museway_billing.journal.store import insert_usage
from museway_billing.ledger import (
    AccountKind,
    GrantKind,
    Transfer,
    TransferKind,
    TransferPhase,
    TransferRefused,
    account_id,
)
from museway_billing.ledger.statement.store import statement
from museway_billing.ledger.store import (
    MONEY_CHANNEL,
    Connection,
    MoneyIn,
    balance,
    expired_credit,
    grant,
    lapse_expired,
    money_since,
    post_usage_batch,
    record_transfer,
)
from museway_billing.money import NanoUsd
from museway_billing.usage import UsageRecord
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio

ONE = record(1).amount_nano_usd


async def post(connection: Connection, *records: UsageRecord) -> None:
    async with connection.transaction():
        inserted = await insert_usage(connection, records)
        await post_usage_batch(connection, inserted.records, batch=records[-1].id)


async def give(connection: Connection, amount: int, txn: str, kind: GrantKind = GrantKind.PROMOTIONAL) -> bool:
    async with connection.transaction():
        return await grant(connection, "org_a", NanoUsd(amount), txn, kind)


async def derived(connection: Connection, account: str) -> int:
    """A balance from transfers alone."""
    return await connection.fetchval(
        "select coalesce(sum(case credit when $1 then amount else -amount end), 0)::bigint from billing.transfer"
        " where $1 in (debit, credit)",
        account,
    )


async def test_credit_is_drawn_first_and_the_rest_is_owed(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await give(connection, ONE + 1, "txn_paid", kind=GrantKind.PAID)
        await give(connection, ONE - 1, "txn_promo")
        await post(connection, record(1), record(2), record(3))
        now = await balance(connection, "org_a")
        assert (now.credit, now.receivable, now.sequence) == (0, ONE, 2)
        assert now.posted == -ONE
        draws = await connection.fetch("select debit, amount from billing.transfer where kind = 'usage' order by id")
        assert [(row["debit"], row["amount"]) for row in draws] == [
            ("credit:org_a:txn_promo", ONE - 1),
            ("credit:org_a:txn_paid", 1),
            ("credit:org_a:txn_paid", ONE),
            ("receivable:org_a", ONE),
        ]
        outbox = await connection.fetchrow("select identifier, amount, state from billing.outbox")
        assert outbox is not None
        assert tuple(outbox) == (f"{record(3).id}:org_a", ONE, "pending")


async def test_balances_are_derivable_from_transfers_alone(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await give(connection, 3 * ONE, "txn_1")
        await post(connection, record(1), record(2, credit=True))
        await post(connection, record(3), record(4), record(5, credit=True))
        accounts = await connection.fetch("select id, debits, credits from billing.account")
        for row in accounts:
            assert row["credits"] - row["debits"] == await derived(connection, row["id"]), row["id"]
        assert sum(row["credits"] - row["debits"] for row in accounts) == 0
        assert -await derived(connection, account_id(AccountKind.REFUND, "org_a")) == 2 * ONE


async def test_a_record_is_posted_once(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await give(connection, 9 * ONE, "txn_1")
        await post(connection, record(1))
        async with connection.transaction():
            again = await insert_usage(connection, [record(1), record(2)])
        assert [r.id for r in again.records] == [record(2).id]
        assert again.requests == {record(2).request_id}


async def test_granting_twice_is_one_grant(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert await give(connection, 5, "txn_1") is True
        assert await give(connection, 5, "txn_1") is False
        assert (await balance(connection, "org_a")).credit == 5


class Again(Struct, frozen=True, kw_only=True):
    """A second grant that is not the first: 5 nano-USD to org_a as txn_1, promotional, for ever."""

    organization: str = "org_a"
    amount: int = 5
    txn: str = "txn_1"
    kind: GrantKind = GrantKind.PROMOTIONAL
    expires: datetime | None = None


@pytest.mark.parametrize(
    ("again", "field"),
    [
        (Again(amount=6), "amount"),
        (Again(organization="org_b"), "organization"),
        (Again(kind=GrantKind.PAID), "debit"),
        (Again(expires=NOW), "expires"),
        (Again(amount=0, txn="txn_2"), "amount"),
    ],
)
async def test_the_same_id_with_other_content_is_refused(pool: Pool, again: Again, field: str) -> None:
    async with pool.acquire() as connection:
        await give(connection, 5, "txn_1")
        with pytest.raises(TransferRefused) as refused:
            async with connection.transaction():
                await grant(connection, again.organization, NanoUsd(again.amount), again.txn, again.kind, again.expires)
        assert refused.value.field == field
        assert (await balance(connection, "org_a")).credit == 5


async def test_money_comes_in_by_one_door_and_rings(pool: Pool) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard.put_nowait(payload)

    async with pool.acquire() as listener, pool.acquire() as connection:
        await listener.add_listener(MONEY_CHANNEL, hear)
        await give(connection, 5, "txn_1")
        await give(connection, 7, "txn_2")
        async with asyncio.timeout(10):
            assert await heard.get() == "org_a"
        rows, position = await money_since(connection, 0)
        assert rows == [MoneyIn("org_a", 1, 5), MoneyIn("org_a", 2, 7)]
        await give(connection, 9, "txn_3")
        later, _ = await money_since(connection, position)
        assert MoneyIn("org_a", 3, 9) in later
        await listener.remove_listener(MONEY_CHANNEL, hear)


async def test_a_grant_that_commits_late_is_not_missed(pool: Pool) -> None:
    async with pool.acquire() as slow, pool.acquire() as quick:
        transaction = slow.transaction()
        await transaction.start()
        await grant(slow, "org_b", NanoUsd(5), "txn_slow")
        await give(quick, 7, "txn_quick")
        rows, position = await money_since(quick, 0)
        assert rows == [MoneyIn("org_a", 1, 7)]
        await transaction.commit()
        rows, _ = await money_since(quick, position)
        assert MoneyIn("org_b", 1, 5) in rows


async def test_sequences_have_no_holes_under_concurrency(pool: Pool) -> None:
    async def one(number: int) -> None:
        async with pool.acquire() as connection:
            await give(connection, 1, f"txn_{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(number))
    async with pool.acquire() as connection:
        rows, _ = await money_since(connection, 0)
        assert [row.sequence for row in rows] == list(range(1, 21))
        assert (await balance(connection, "org_a")).credit == 20


async def test_batches_of_the_same_organizations_do_not_deadlock(pool: Pool) -> None:
    async def one(number: int) -> None:
        owners = ["org_a", "org_b", "org_c"]
        batch = [record(number * 10 + n, organization=owners[(number + n) % 3]) for n in range(3)]
        async with pool.acquire() as connection:
            await post(connection, *batch)
            await give(connection, 1, f"txn_{number}")

    async with asyncio.TaskGroup() as group:
        for number in range(1, 15):
            group.create_task(one(number))
    async with pool.acquire() as connection:
        assert (await balance(connection, "org_b")).receivable == 14 * ONE


async def test_expired_credit_lapses_by_the_same_door(pool: Pool) -> None:
    async with pool.acquire() as connection:
        async with connection.transaction():
            await grant(connection, "org_a", NanoUsd(5), "txn_1", expires=NOW - timedelta(days=1))
            await grant(connection, "org_a", NanoUsd(7), "txn_2", expires=NOW + timedelta(days=1))
        assert await expired_credit(connection, now=NOW) == ["org_a"]
        async with connection.transaction():
            lapsed = await lapse_expired(connection, "org_a", now=NOW)
        assert [transfer.amount for transfer in lapsed] == [5]
        assert await expired_credit(connection, now=NOW) == []
        rows, _ = await money_since(connection, 0)
        assert rows[-1] == MoneyIn("org_a", 3, -5)
        assert (await balance(connection, "org_a")).credit == 7


@pytest.mark.parametrize("table", ["transfer", "usage", "money_in", "price", "price_version", "receipt"])
async def test_what_was_written_about_money_stays(pool: Pool, table: str) -> None:
    async with pool.acquire() as connection:
        await give(connection, 5, "txn_1")
        await post(connection, record(1))
        await connection.execute("insert into billing.price_version values (9, now())")
        await connection.execute("insert into billing.price values (9, '*', 'x', true)")
        await connection.execute("insert into billing.receipt values ('req_1', 1, 'org_a', '', 'kid', '')")
        column = await connection.fetchval(
            "select attname from pg_attribute where attrelid = $1::regclass and attnum = 1", f"billing.{table}"
        )
        for change in (
            f"update billing.{table} set {column} = {column}",
            f"delete from billing.{table}",
            f"truncate billing.{table} cascade",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(change)


async def test_the_database_itself_refuses_credit_below_zero(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await give(connection, 5, "txn_1")
        too_much = Transfer(
            id="txn_2",
            source="txn_2",
            kind=TransferKind.ADJUSTMENT,
            organization="org_a",
            debit="credit:org_a:txn_1",
            credit="promotion:org_a",
            amount=NanoUsd(6),
        )
        with pytest.raises(asyncpg.CheckViolationError):
            async with connection.transaction():
                await record_transfer(connection, too_much)


def payment(amount: int, txn: str, phase: TransferPhase = TransferPhase.POSTED, pending: str | None = None) -> Transfer:
    return Transfer(
        id=txn,
        source="inv_1",
        kind=TransferKind.PAYMENT,
        organization="org_a",
        debit="clearing:org_a",
        credit="receivable:org_a",
        amount=NanoUsd(amount),
        phase=phase,
        pending=pending,
    )


async def paid(connection: Connection, transfer: Transfer) -> bool:
    async with connection.transaction():
        return await record_transfer(connection, transfer)


async def test_a_payment_passes_the_door_once(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await post(connection, record(1))
        assert await paid(connection, payment(ONE, "txn_1")) is True
        assert await paid(connection, payment(ONE, "txn_1")) is False
        assert (await balance(connection, "org_a")).posted == 0
        rows, _ = await money_since(connection, 0)
        assert rows == [MoneyIn("org_a", 1, ONE)]


async def test_a_pending_payment_moves_nothing_until_it_is_posted(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await post(connection, record(1))
        await paid(connection, payment(ONE, "txn_1", TransferPhase.PENDING))
        assert (await balance(connection, "org_a")).posted == -ONE
        assert await money_since(connection, 0) == ([], (await money_since(connection, 0))[1])
        with pytest.raises(TransferRefused) as refused:
            await paid(connection, payment(ONE + 1, "txn_2", TransferPhase.POST, "txn_1"))
        assert refused.value.field == "amount"
        await paid(connection, payment(ONE - 1, "txn_2", TransferPhase.POST, "txn_1"))
        assert (await balance(connection, "org_a")).posted == -1
        with pytest.raises(asyncpg.UniqueViolationError):
            await paid(connection, payment(ONE, "txn_3", TransferPhase.VOID, "txn_1"))
        with pytest.raises(TransferRefused, match="pending"):
            await paid(connection, payment(ONE, "txn_4", TransferPhase.VOID, "txn_2"))


async def test_a_voided_payment_never_happened(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await post(connection, record(1))
        await paid(connection, payment(ONE, "txn_1", TransferPhase.PENDING))
        await paid(connection, payment(ONE, "txn_2", TransferPhase.VOID, "txn_1"))
        assert (await balance(connection, "org_a")).posted == -ONE


async def test_a_statement_leads_from_balance_to_balance(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await give(connection, 2 * ONE, "txn_1")
        start = await connection.fetchval("select now()")
        await post(connection, record(1), record(2), record(3))
        await post(connection, record(4, credit=True))
        await paid(connection, payment(ONE, "txn_2"))
        end = start + timedelta(days=1)
        told = await statement(connection, "org_a", since=start, until=end)
        assert (told.opening, told.closing) == (2 * ONE, (await balance(connection, "org_a")).posted)
        by_kind: dict[str, int] = {}
        for line in told.lines:
            by_kind[line.kind] = by_kind.get(line.kind, 0) + line.amount
        assert by_kind == {"usage": -4 * ONE, "usage_credit": ONE, "payment": ONE}
        assert [line.source for line in told.lines if line.kind is TransferKind.PAYMENT] == ["inv_1"]
        before = await statement(connection, "org_a", since=start - timedelta(days=1), until=start)
        assert (before.opening, before.closing) == (0, told.opening)
        assert [(line.kind, line.amount) for line in before.lines] == [(TransferKind.GRANT, 2 * ONE)]
