"""Statements of account. Functions take a connection and never commit."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from museway_billing.ledger.store import Connection
from museway_billing.ledger.transfer import TransferKind
from museway_billing.money import NanoUsd

_SPENDABLE = """
sum(amount * ((case when credit ~ '^(credit|receivable):' then 1 else 0 end)
    - (case when debit ~ '^(credit|receivable):' then 1 else 0 end)))::bigint
"""
_OPENING = f"""
select coalesce({_SPENDABLE}, 0)::bigint from billing.transfer
where organization = $1 and posted < $2 and phase in ('posted', 'post')
"""
_STATEMENT = f"""
with line as (
    select *, kind in ('usage', 'usage_credit') as daily,
        case when kind in ('refund', 'adjustment') then split_part(id, ':', 1) end as adjustment
    from billing.transfer
    where organization = $1 and posted >= $2 and posted < $3 and phase in ('posted', 'post')
)
select min(posted) as posted, kind, case when daily then null else source end as source, adjustment, {_SPENDABLE} as amount
from line group by daily, kind, adjustment, case when daily then null else source end,
    case when daily then date_trunc('day', posted, 'UTC') else posted end
having {_SPENDABLE} <> 0
order by posted, kind, source
"""


_GRANTS = """
select id, priority, expires, created, credits - debits as left,
    coalesce((select amount from billing.transfer t where t.id = substr(a.id, length('credit:' || organization || ':') + 1)), 0)
        as granted
from billing.account a where organization = $1 and kind = 'credit'
order by credits <= debits, priority, expires nulls last, created, id
"""


class Grant(Struct, frozen=True, kw_only=True):
    """One grant of credit. `granted`: what it was at first; `left`: what can be drawn of it."""

    account: str
    priority: int
    expires: datetime | None
    created: datetime
    granted: NanoUsd
    left: NanoUsd


class StatementLine(Struct, frozen=True, kw_only=True):
    """`amount` is what it adds to the spendable balance. `source` None: a day's usage; else what it was posted for."""

    posted: datetime
    kind: TransferKind
    source: str | None
    amount: NanoUsd
    adjustment: str | None = None
    """The adjustment that it belongs to: that says why."""


class Statement(Struct, frozen=True, kw_only=True):
    """`opening` + lines = `closing`: credit less what is owed, as
    `Balance.posted` but for what is reserved."""

    organization: str
    opening: NanoUsd
    lines: tuple[StatementLine, ...]
    closing: NanoUsd


async def statement(connection: Connection, organization: str, *, since: datetime, until: datetime) -> Statement:
    """What was posted in [since, until), by posting date: usage in one line a day (UTC), everything else one by one."""
    opening = await connection.fetchval(_OPENING, organization, since)
    rows = await connection.fetch(_STATEMENT, organization, since, until)
    lines = [
        StatementLine(
            posted=row["posted"],
            kind=TransferKind(row["kind"]),
            source=row["source"],
            amount=NanoUsd(row["amount"]),
            adjustment=row["adjustment"],
        )
        for row in rows
    ]
    closing = opening + sum(line.amount for line in lines)
    return Statement(organization=organization, opening=NanoUsd(opening), lines=tuple(lines), closing=NanoUsd(closing))


async def grants(connection: Connection, organization: str) -> list[Grant]:
    """All of an organization's, in the order in which they are drawn; those that are used up, or lapsed, last."""
    return [
        Grant(
            account=row["id"],
            priority=row["priority"],
            expires=row["expires"],
            created=row["created"],
            granted=NanoUsd(row["granted"]),
            left=NanoUsd(row["left"]),
        )
        for row in await connection.fetch(_GRANTS, organization)
    ]
