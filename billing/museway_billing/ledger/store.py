"""The ledger in PostgreSQL. Functions take a connection inside the caller's transaction and never commit.

Concurrent writers: every function locks the accounts it will move, in the order of their ids, before it reads balances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from msgspec import Struct
from msgspec.json import encode

from museway_billing.ledger.account import AccountKind, Balance, Credit, GrantKind, account_id, credit_id, is_spendable
from museway_billing.ledger.posting import Posting, post_usage
from museway_billing.ledger.transfer import (
    Transfer,
    TransferKind,
    TransferPhase,
    TransferRefused,
    check,
    check_end,
    refuse_difference,
)
from museway_billing.money import NanoUsd
from museway_billing.usage import UsageRecord

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

MONEY_CHANNEL = "museway_money"
"""NOTIFY, payload: the organization whose money changed by the one door."""

_OPEN_ACCOUNTS = """
insert into billing.account (id, organization, kind)
select * from unnest($1::text[], $2::text[], $3::text[]) on conflict (id) do nothing
"""
_LOCK_ACCOUNTS = """
select id, organization, kind, priority, expires, created, credits - debits as left
from billing.account
where organization = any($1::text[]) and (kind <> 'credit' or credits > debits)
order by id for update
"""
_INSERT_TRANSFERS = """
insert into billing.transfer (id, source, kind, organization, debit, credit, amount, phase, pending)
select * from json_to_recordset($1::json) as transfer (id text, source text, kind text, organization text, debit text,
    credit text, amount bigint, phase text, pending text)
"""
_MOVE = """
update billing.account a set debits = a.debits + m.debits, credits = a.credits + m.credits
from unnest($1::text[], $2::bigint[], $3::bigint[]) as m (id, debits, credits) where a.id = m.id
"""
_TRANSFER = """
select id, source, kind, organization, debit, credit, amount, phase, pending from billing.transfer where id = $1
"""
_LOCK_ORGANIZATION = "select pg_advisory_xact_lock(hashtextextended('billing.money:' || $1, 0))"
_MONEY_IN = """
insert into billing.money_in (organization, sequence, delta, transfer)
select $1, coalesce(max(sequence), 0) + 1, $2, $3 from billing.money_in where organization = $1
returning sequence
"""
_BALANCE = """
select
    coalesce(sum(credits - debits) filter (where kind = 'credit'), 0)::bigint as credit,
    coalesce(sum(debits - credits) filter (where kind = 'receivable'), 0)::bigint as receivable,
    coalesce((select sum(amount) from billing.transfer t
        where organization = $1 and kind = 'unknown' and phase = 'pending'
            and not exists (select from billing.transfer ended where ended.pending = t.id)), 0)::bigint as reserved,
    coalesce((select max(sequence) from billing.money_in where organization = $1), 0)::bigint as sequence
from billing.account where organization = $1
"""
_BALANCES = """
with money as (
    select organization, max(sequence) as sequence from billing.money_in
    where $1::text[] is null or organization = any($1) group by organization
), account as (
    select organization, sum(credits - debits) filter (where kind = 'credit') as credit,
        sum(debits - credits) filter (where kind = 'receivable') as receivable
    from billing.account where $1::text[] is null or organization = any($1) group by organization
), reserve as (
    select organization, sum(amount) as reserved from billing.transfer t
    where kind = 'unknown' and phase = 'pending' and ($1::text[] is null or organization = any($1))
        and not exists (select from billing.transfer ended where ended.pending = t.id)
    group by organization
)
select organization, coalesce(credit, 0)::bigint as credit, coalesce(receivable, 0)::bigint as receivable,
    coalesce(sequence, 0)::bigint as sequence, coalesce(reserved, 0)::bigint as reserved
from account full join money using (organization) left join reserve using (organization) order by organization
"""
_MONEY_AFTER = """
select m.organization, m.sequence, m.delta from billing.money_in m
join unnest($1::text[], $2::bigint[]) as known (organization, sequence) using (organization)
where m.sequence > known.sequence order by m.organization, m.sequence
"""
_OLDEST_OPEN = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_MONEY_SINCE = """
select organization, sequence, delta from billing.money_in where transaction >= $1::text::xid8 order by organization, sequence
"""
_EXPIRED = """
select distinct organization from billing.account
where kind = 'credit' and expires < $1 and credits > debits order by organization
"""
_ABOUT_GRANTS = """
select account,
    exists (select from billing.transfer where id = split_part(account, ':', 3) and debit like 'clearing:%') as paid,
    (select count(*) from billing.transfer where source = account and kind = 'lapse') as lapses
from unnest($1::text[]) as account
"""
_OPEN_CREDIT = """
insert into billing.account (id, organization, kind, priority, expires) values ($1, $2, 'credit', $3, $4)
"""
_OUTBOX = """
insert into billing.outbox (identifier, organization, amount)
select * from unnest($1::text[], $2::text[], $3::bigint[])
"""


class MoneyIn(Struct, frozen=True):
    """One posting that is not usage; a limiter applies each (organization, sequence) once."""

    organization: str
    sequence: int
    delta: int


async def post_usage_batch(connection: Connection, records: Sequence[UsageRecord], *, batch: str) -> Posting:
    """Post records that were just inserted: transfers, balances, and an outbox row per organization that now owes more.

    `batch` names the batch for ever; the outbox identifiers are made of it.
    """
    organizations = sorted({record.organization for record in records})
    kinds = [AccountKind.RECEIVABLE, AccountKind.REVENUE, AccountKind.REFUND]
    if any(one.reserve_nano_usd for one in records):
        kinds.append(AccountKind.UNKNOWN)
    credits_ = await open_accounts(connection, organizations, kinds)
    posting = post_usage(records, credits_)
    await record(connection, posting.transfers)
    await owe(connection, posting.receivable, batch)
    return posting


async def owe(connection: Connection, receivable: Mapping[str, NanoUsd], batch: str) -> None:
    """Tell the payment provider, by the outbox, what each organization owes more (or less). `batch` is used once."""
    owing = sorted((organization, amount) for organization, amount in receivable.items() if amount)
    if owing:
        identifiers = [f"{batch}:{organization}" for organization, _ in owing]
        await connection.execute(_OUTBOX, identifiers, [o for o, _ in owing], [amount for _, amount in owing])


async def grant(
    connection: Connection,
    organization: str,
    amount: NanoUsd,
    txn_id: str,
    kind: GrantKind = GrantKind.PROMOTIONAL,
    expires: datetime | None = None,
    priority: int | None = None,
) -> bool:
    """Give an organization credit. True: now; False: this very grant is there already. Limiters hear of it on commit.

    `priority`: lower is drawn first; None: its kind's. Raises TransferRefused: amount not above 0, or `txn_id` is another
    transfer's.
    """
    account = credit_id(organization, txn_id)
    transfer = Transfer(
        id=txn_id,
        source=txn_id,
        kind=TransferKind.GRANT,
        organization=organization,
        debit=account_id(kind.source, organization),
        credit=account,
        amount=amount,
    )
    await lock_organization(connection, organization)
    if await _exists(connection, transfer):
        stored = await connection.fetchval("select expires from billing.account where id = $1", account)
        if stored != expires:
            raise TransferRefused(txn_id, "expires", f"is {stored} in the ledger, not {expires}")
        return False
    await open_accounts(connection, [organization], (kind.source,))
    await open_credit(connection, account, organization, kind.priority if priority is None else priority, expires)
    await record(connection, [transfer])
    await let_in(connection, organization, amount, txn_id)
    return True


async def expired_credit(connection: Connection, *, now: datetime) -> list[str]:
    """The organizations that have credit left which expired before `now`."""
    return [row["organization"] for row in await connection.fetch(_EXPIRED, now)]


async def lapse_expired(connection: Connection, organization: str, *, now: datetime) -> list[Transfer]:
    """Take back what is left of an organization's credit that expired before `now`. Until then it can be spent, here and
    in the limiter: the lapse's own posting ends it. Paid credit lapses to revenue, promotional to promotion.

    One organization a transaction: the locks of several would be taken in an order that a batch of usage does not share.
    """
    await lock_organization(connection, organization)
    credits_ = await open_accounts(connection, [organization], (AccountKind.PROMOTION, AccountKind.REVENUE))
    due = [credit for credit in credits_ if credit.expires is not None and credit.expires < now]
    told = await connection.fetch(_ABOUT_GRANTS, [credit.account for credit in due])
    about = {row["account"]: row for row in told}
    lapsed = [_lapse(credit, about[credit.account]["paid"], about[credit.account]["lapses"]) for credit in due]
    await record(connection, lapsed)
    for transfer in lapsed:
        await let_in(connection, organization, -transfer.amount, transfer.id)
    return lapsed


async def balance(connection: Connection, organization: str) -> Balance:
    """What the ledger has now, in one snapshot; an organization that it does not know has 0."""
    row = await connection.fetchrow(_BALANCE, organization)
    assert row is not None
    return Balance(
        organization=organization,
        credit=row["credit"],
        receivable=row["receivable"],
        sequence=row["sequence"],
        reserved=row["reserved"],
    )


async def balances(connection: Connection, organizations: Sequence[str] | None = None) -> list[Balance]:
    """What the ledger has now of these organizations (None: of all), in one snapshot; those that it does not know are left
    out."""
    rows = await connection.fetch(_BALANCES, None if organizations is None else list(organizations))
    return [Balance(**dict(row)) for row in rows]


async def money_after(connection: Connection, known: Mapping[str, int]) -> list[MoneyIn]:
    """What came in by the door after these sequences, by organization."""
    rows = await connection.fetch(_MONEY_AFTER, list(known), list(known.values()))
    return [MoneyIn(row["organization"], row["sequence"], row["delta"]) for row in rows]


async def money_since(connection: Connection, transaction: int) -> tuple[list[MoneyIn], int]:
    """What came in by the door in transactions from `transaction` on, and what to ask with next time. 0: everything.

    Rows are given again while an older transaction is still open: the sequence makes that harmless, and ids alone would
    miss a row that took its number early and committed late.
    """
    oldest: int = await connection.fetchval(_OLDEST_OPEN)
    rows = await connection.fetch(_MONEY_SINCE, str(transaction))
    return [MoneyIn(row["organization"], row["sequence"], row["delta"]) for row in rows], oldest


async def record_transfer(connection: Connection, transfer: Transfer) -> bool:
    """Record one transfer that is neither usage nor a grant: a payment, a refund, an adjustment, a pending one or its end.

    What changes the spendable balance passes the one door. False: this very transfer is there already. Raises
    TransferRefused; asyncpg.CheckViolationError where a credit would fall below 0, asyncpg.UniqueViolationError where a
    pending transfer has ended another way.
    """
    check(transfer)
    await lock_organization(connection, transfer.organization)
    if await _exists(connection, transfer):
        return False
    if transfer.pending is not None:
        check_end(transfer, await _find(connection, transfer.pending))
    await open_accounts(
        connection, [transfer.organization], [kind for kind in AccountKind if kind is not AccountKind.CREDIT]
    )
    await record(connection, [transfer])
    delta = transfer.amount * (is_spendable(transfer.credit) - is_spendable(transfer.debit))
    if delta and transfer.phase.moves:
        await let_in(connection, transfer.organization, delta, transfer.id)
    return True


async def lock_organization(connection: Connection, organization: str) -> None:
    """Until the transaction's end nobody else moves this organization's money by the door."""
    await connection.execute(_LOCK_ORGANIZATION, organization)


async def open_credit(
    connection: Connection, account: str, organization: str, priority: int, expires: datetime | None
) -> None:
    await connection.execute(_OPEN_CREDIT, account, organization, priority, expires)


# -- inside -----------------------------------------------------------------------------------------------------------


async def open_accounts(
    connection: Connection, organizations: Sequence[str], kinds: Iterable[AccountKind]
) -> list[Credit]:
    """Make the accounts that are missing, lock all of these organizations', give what is left of their credit."""
    wanted = sorted((account_id(kind, owner), owner, kind.value) for owner in organizations for kind in kinds)
    columns = [list(column) for column in zip(*wanted, strict=True)]
    await connection.execute(_OPEN_ACCOUNTS, *columns)
    rows = await connection.fetch(_LOCK_ACCOUNTS, list(organizations))
    return [to_credit(row) for row in rows if row["kind"] == AccountKind.CREDIT]


async def _exists(connection: Connection, transfer: Transfer) -> bool:
    check(transfer)
    stored = await _find(connection, transfer.id)
    if stored is not None:
        refuse_difference(stored, transfer)
    return stored is not None


async def _find(connection: Connection, id_: str) -> Transfer | None:
    row = await connection.fetchrow(_TRANSFER, id_)
    if row is None:
        return None
    return Transfer(
        id=row["id"],
        source=row["source"],
        kind=TransferKind(row["kind"]),
        organization=row["organization"],
        debit=row["debit"],
        credit=row["credit"],
        amount=row["amount"],
        phase=TransferPhase(row["phase"]),
        pending=row["pending"],
    )


async def record(connection: Connection, transfers: Sequence[Transfer]) -> None:
    """Insert transfers and move the balances of their accounts, which are locked."""
    if not transfers:
        return
    await connection.execute(_INSERT_TRANSFERS, encode(transfers).decode())
    moved: dict[str, list[int]] = {}
    for transfer in transfers:
        if transfer.phase.moves:
            moved.setdefault(transfer.debit, [0, 0])[0] += transfer.amount
            moved.setdefault(transfer.credit, [0, 0])[1] += transfer.amount
    ids = sorted(moved)
    await connection.execute(_MOVE, ids, [moved[id_][0] for id_ in ids], [moved[id_][1] for id_ in ids])


async def let_in(connection: Connection, organization: str, delta: int, transfer: str) -> None:
    """The one door: numbered for the limiters of all gateways, and told to those that listen."""
    await connection.execute(_MONEY_IN, organization, delta, transfer)
    await connection.execute("select pg_notify($1, $2)", MONEY_CHANNEL, organization)


def to_credit(row: asyncpg.Record) -> Credit:
    return Credit(
        account=row["id"],
        organization=row["organization"],
        priority=row["priority"],
        expires=row["expires"],
        created=row["created"],
        left=row["left"],
    )


def _lapse(credit: Credit, paid: bool, before: int) -> Transfer:
    """`before`: how often the grant has lapsed; what was given back to it since lapses as well."""
    kind = AccountKind.REVENUE if paid else AccountKind.PROMOTION
    return Transfer(
        id=f"{credit.account}:lapse" if before == 0 else f"{credit.account}:lapse:{before + 1}",
        source=credit.account,
        kind=TransferKind.LAPSE,
        organization=credit.organization,
        debit=credit.account,
        credit=account_id(kind, credit.organization),
        amount=credit.left,
    )
