"""Adjustments and unknown counts in PostgreSQL. Functions take a connection inside the caller's transaction and never commit.

All of it passes the one door, so that limiters know within a second, and is idempotent by the adjustment's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from museway_billing.ledger.account import AccountKind, GrantKind, account_id, credit_id, is_spendable
from museway_billing.ledger.corrections.posting import Adjustment, Taken, give_back, take
from museway_billing.ledger.posting import reserve_id
from museway_billing.ledger.store import (
    Connection,
    let_in,
    lock_organization,
    open_accounts,
    open_credit,
    owe,
    record,
)
from museway_billing.ledger.transfer import Transfer, TransferKind, TransferPhase, TransferRefused
from museway_billing.money import NanoUsd
from museway_billing.prices import PriceBook, priced_lines, total
from museway_billing.usage import UsageRecord

UNKNOWN_LAPSES_AFTER: Final = timedelta(hours=24)
"""How long a count may stay unknown; then it is the customer's favour (I8)."""

_KNOWN = "select organization, amount, subject, reason from billing.adjustment where id = $1"
_INSERT = "insert into billing.adjustment (id, organization, amount, subject, reason) values ($1, $2, $3, $4, $5)"
_OF_REQUEST = "select id from billing.usage where request_id = $2 and organization = $1 order by created, id"
_OF_RECORD = "select distinct source as id from billing.transfer where source = $2 and organization = $1"
_TAKEN = """
with moved as (
    select source, case when kind = 'usage' then debit else credit end as account, min(id) as first,
        sum(case when kind = 'usage' then amount else -amount end) as amount
    from billing.transfer where source = any($1::text[]) and kind in ('usage', 'usage_credit', 'refund') group by 1, 2
)
select source as record, account, amount::bigint as amount, expires
from moved join billing.account a on a.id = account where amount > 0 order by array_position($1::text[], source), first
"""
# What went back to a grant of its own, since the first had expired, lowers what is still taken of the record all the same.
_ELSEWHERE = """
select source as record, sum(amount)::bigint as amount from billing.transfer
where source = any($1::text[]) and kind = 'refund' and credit like 'credit:%:' || id group by source
"""
_RESERVES = """
select t.source as record, t.organization, t.amount, t.posted as since from billing.transfer t
where kind = 'unknown' and phase = 'pending' and ($1::text is null or organization = $1)
    and ($2::text is null or source = $2) and ($3::timestamptz is null or posted < $3)
    and not exists (select from billing.transfer ended where ended.pending = t.id)
order by posted, source
"""
_LIST = """
select id, organization, amount, subject, reason, created from billing.adjustment
where organization = $1 order by created, id
"""


class Reserve(Struct, frozen=True, kw_only=True):
    """A record whose count is not known yet, and what is reserved for it."""

    record: str
    organization: str
    amount: NanoUsd
    since: datetime

    @property
    def lapses(self) -> datetime:
        return self.since + UNKNOWN_LAPSES_AFTER


class Adjusted(Struct, frozen=True, kw_only=True):
    """An adjustment as it stands in the books."""

    id: str
    organization: str
    amount: NanoUsd
    subject: str | None
    reason: str
    created: datetime


async def adjust(connection: Connection, adjustment: Adjustment) -> bool:
    """Give credit (above 0) or take it (below). False: this very adjustment is there already. Raises TransferRefused."""
    assert adjustment.subject is None
    organization = adjustment.organization
    await lock_organization(connection, organization)
    if await _is_known(connection, adjustment):
        return False
    if adjustment.amount == 0:
        raise TransferRefused(adjustment.id, "amount", "is 0")
    credits_ = await open_accounts(connection, [organization], (AccountKind.PROMOTION, AccountKind.RECEIVABLE))
    if adjustment.amount < 0:
        transfers, owed = take(adjustment, credits_, AccountKind.PROMOTION, source=adjustment.id)
    else:
        account, owed = credit_id(organization, adjustment.id), NanoUsd(0)
        await open_credit(connection, account, organization, GrantKind.PROMOTIONAL.priority, None)
        transfers = [
            Transfer(
                id=adjustment.id,
                source=adjustment.id,
                kind=TransferKind.ADJUSTMENT,
                organization=organization,
                debit=account_id(AccountKind.PROMOTION, organization),
                credit=account,
                amount=adjustment.amount,
            )
        ]
    await _post(connection, adjustment, transfers, owed)
    return True


async def correct(
    connection: Connection,
    organization: str,
    subject: str,
    *,
    amount: NanoUsd | None,
    id: str,  # noqa: A002
    reason: str,
    now: datetime,
) -> Adjusted | None:
    """Give back what a record or request was charged, all that is left of it or `amount`, to where it was taken from.

    None: this very correction is there already. Raises TransferRefused: no such record of this organization in the
    ledger, or more than is still charged.
    """
    await lock_organization(connection, organization)
    known = await connection.fetchrow(_KNOWN, id)
    if known is not None:
        wanted = NanoUsd(known["amount"]) if amount is None else amount
        await _is_known(connection, _adjustment(id, organization, wanted, subject, reason))
        return None
    await open_accounts(connection, [organization], (AccountKind.REFUND, AccountKind.RECEIVABLE))
    found = await connection.fetch(_OF_REQUEST if subject.startswith("req_") else _OF_RECORD, organization, subject)
    records = [row["id"] for row in found]
    if not records:
        raise TransferRefused(id, "subject", f"{subject}: nothing is charged to this organization for it")
    taken = await _taken(connection, records)
    left = sum(one.amount for one in taken)
    adjustment = _adjustment(id, organization, NanoUsd(left) if amount is None else amount, subject, reason)
    if adjustment.amount <= 0:
        raise TransferRefused(
            id, "amount", "is not above 0" if amount is not None else "is 0: nothing of it is charged"
        )
    transfers = give_back(adjustment, taken, now=now)
    for transfer in transfers:
        if transfer.credit.endswith(f":{transfer.id}"):
            await open_credit(connection, transfer.credit, organization, GrantKind.PROMOTIONAL.priority, None)
    receivable = account_id(AccountKind.RECEIVABLE, organization)
    owed = -sum(transfer.amount for transfer in transfers if transfer.credit == receivable)
    await _post(connection, adjustment, transfers, NanoUsd(owed))
    return Adjusted(
        id=id, organization=organization, amount=adjustment.amount, subject=subject, reason=reason, created=now
    )


async def reserves(
    connection: Connection,
    *,
    organization: str | None = None,
    record_id: str | None = None,
    before: datetime | None = None,
) -> list[Reserve]:
    """What is reserved for unknown counts, oldest first; None: of all."""
    rows = await connection.fetch(_RESERVES, organization, record_id, before)
    return [Reserve(**dict(row)) for row in rows]


async def lapse_unknown(connection: Connection, organization: str, *, now: datetime) -> list[Reserve]:
    """Give up what has been unknown for 24 hours: its reserve is free again, nothing more is charged."""
    await lock_organization(connection, organization)
    due = await reserves(connection, organization=organization, before=now - UNKNOWN_LAPSES_AFTER)
    for reserve in due:
        await _end(connection, reserve)
    return due


async def settle_unknown(
    connection: Connection,
    unknown: UsageRecord,
    book: PriceBook,
    *,
    reasoning: int,
    output: int,
    id: str,  # noqa: A002
    reason: str,
) -> NanoUsd | None:
    """Charge what an unknown record turned out to have made, at the record's own prices, and free its reserve.

    Never more than the reserve: nothing is charged that no hold covered. The amount charged; None: this very settlement is
    there already. Raises TransferRefused where nothing is reserved for the record (any more).
    """
    organization = unknown.organization
    tariff = book.tariff_of(unknown.price_version, organization, unknown.model, unknown.mode)
    cost = total(priced_lines(tariff, input=0, cached_input=0, reasoning=reasoning, output=output))
    await lock_organization(connection, organization)
    amount = min(cost, unknown.reserve_nano_usd)
    adjustment = _adjustment(id, organization, NanoUsd(-amount), unknown.id, reason)
    if await _is_known(connection, adjustment):
        return None
    found = await reserves(connection, organization=organization, record_id=unknown.id)
    if not found:
        raise TransferRefused(id, "subject", f"nothing is reserved for {unknown.id} (any more)")
    await _end(connection, found[0])
    credits_ = await open_accounts(connection, [organization], (AccountKind.REVENUE, AccountKind.RECEIVABLE))
    transfers, owed = take(adjustment, credits_, AccountKind.REVENUE, source=unknown.id)
    await _post(connection, adjustment, transfers, owed)
    return NanoUsd(amount)


async def adjustments(connection: Connection, organization: str) -> list[Adjusted]:
    """All of an organization's, oldest first."""
    return [Adjusted(**dict(row)) for row in await connection.fetch(_LIST, organization)]


# -- inside -----------------------------------------------------------------------------------------------------------


def _adjustment(id_: str, organization: str, amount: NanoUsd, subject: str | None, reason: str) -> Adjustment:
    return Adjustment(id=id_, organization=organization, amount=amount, subject=subject, reason=reason)


async def _is_known(connection: Connection, adjustment: Adjustment) -> bool:
    """Whether it is there; raises TransferRefused where another one has its id."""
    row = await connection.fetchrow(_KNOWN, adjustment.id)
    if row is None:
        return False
    for field in ("organization", "amount", "subject", "reason"):
        if row[field] != getattr(adjustment, field):
            stands = f"is {row[field]} in the ledger, not {getattr(adjustment, field)}"
            raise TransferRefused(adjustment.id, field, stands)
    return True


async def _taken(connection: Connection, records: Sequence[str]) -> list[Taken]:
    """What is still taken for these records, in the order in which it was taken."""
    elsewhere = {row["record"]: int(row["amount"]) for row in await connection.fetch(_ELSEWHERE, list(records))}
    taken: list[Taken] = []
    for row in reversed(await connection.fetch(_TAKEN, list(records))):
        gone = min(elsewhere.get(row["record"], 0), row["amount"])
        elsewhere[row["record"]] = elsewhere.get(row["record"], 0) - gone
        taken.append(
            Taken(record=row["record"], account=row["account"], amount=row["amount"] - gone, expires=row["expires"])
        )
    return taken[::-1]


async def _post(connection: Connection, adjustment: Adjustment, transfers: Sequence[Transfer], owed: NanoUsd) -> None:
    await connection.execute(
        _INSERT,
        adjustment.id,
        adjustment.organization,
        adjustment.amount,
        adjustment.subject,
        adjustment.reason,
    )
    await record(connection, transfers)
    for transfer in transfers:
        delta = transfer.amount * (is_spendable(transfer.credit) - is_spendable(transfer.debit))
        await let_in(connection, adjustment.organization, NanoUsd(delta), transfer.id)
    await owe(connection, {adjustment.organization: owed}, adjustment.id)


async def _end(connection: Connection, reserve: Reserve) -> None:
    organization, pending = reserve.organization, reserve_id(reserve.record)
    await open_accounts(connection, [organization], (AccountKind.RECEIVABLE, AccountKind.UNKNOWN))
    void = Transfer(
        id=f"{pending}:end",
        source=reserve.record,
        kind=TransferKind.UNKNOWN,
        organization=organization,
        debit=account_id(AccountKind.RECEIVABLE, organization),
        credit=account_id(AccountKind.UNKNOWN, organization),
        amount=reserve.amount,
        phase=TransferPhase.VOID,
        pending=pending,
    )
    await record(connection, [void])
    await let_in(connection, organization, reserve.amount, void.id)
