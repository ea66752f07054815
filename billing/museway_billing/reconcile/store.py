"""What reconciliation compares, as PostgreSQL sums it. Read only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from museway_billing.reconcile.report import Check, Difference, Sums
from museway_billing.reports.store import to_record
from museway_billing.usage import UsageRecord

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_RECORDS = "select * from billing.usage where (created, id) > ($1, $2) order by created, id limit $3"
_FIRST = "select created, id from billing.usage order by created, id limit 1"
_ORGANIZATIONS = """
select organization from billing.account union select organization from billing.usage_rollup
union select organization from billing.usage group by organization order by 1
"""
_COUNT_RECORDS = "select count(*) from billing.usage"
_COUNT_TRANSFERS = "select count(*) from billing.transfer"
_DRAINED = "select id, drained_sequence from billing.journal"
_PERIODS = """
with used as (
    select date_trunc('month', posted, 'UTC') as period, count(*) as records, sum(amount_nano_usd) as usage,
        sum(credited_nano_usd) as credited
    from billing.usage where organization = $1 group by 1
), line as (
    select date_trunc('month', posted, 'UTC') as period, amount, kind, kind <> 'adjustment' or source like 'use\\_%' as of_usage,
        case when debit = 'receivable:' || organization then amount
            when credit = 'receivable:' || organization then -amount else 0 end as receivable,
        case when kind = 'usage' or (kind = 'adjustment' and source like 'use\\_%') then amount else -amount end as taken
    from billing.transfer where organization = $1 and kind in ('usage', 'usage_credit', 'refund', 'adjustment')
), moved as (
    select period, sum(receivable) filter (where of_usage) as receivable,
        sum(taken - receivable) filter (where of_usage) as credit_used,
        sum(amount) filter (where kind = 'refund') as corrected,
        sum(amount) filter (where kind = 'adjustment' and of_usage) as settled,
        sum(receivable) filter (where not of_usage) as adjusted
    from line group by 1
), told as (
    select date_trunc('month', occurred, 'UTC') as period, sum(amount) as exported
    from billing.outbox where organization = $1 group by 1
)
select to_char(period at time zone 'UTC', 'YYYY-MM') as period, coalesce(records, 0)::bigint as records,
    coalesce(usage, 0)::bigint as usage, coalesce(credited, 0)::bigint as credited,
    coalesce(credit_used, 0)::bigint as credit_used, coalesce(receivable, 0)::bigint as receivable,
    coalesce(exported, 0)::bigint as exported, coalesce(corrected, 0)::bigint as corrected,
    coalesce(settled, 0)::bigint as settled, coalesce(adjusted, 0)::bigint as adjusted
from used full join moved using (period) full join told using (period) order by period
"""
_UNPOSTED = """
with used as (
    select id, amount_nano_usd as amount, credited_nano_usd as credited, reserve_nano_usd as reserve, posted
    from billing.usage where organization = $1
), moved as (
    select source, min(posted) as posted, coalesce(sum(amount) filter (where kind = 'usage'), 0) as amount,
        coalesce(sum(amount) filter (where kind = 'usage_credit'), 0) as credited,
        coalesce(sum(amount) filter (where kind = 'unknown'), 0) as reserve
    from billing.transfer where organization = $1
        and (kind in ('usage', 'usage_credit') or (kind = 'unknown' and phase = 'pending'))
    group by source
)
select coalesce(id, source) as id, used.amount || ' less ' || used.credited || ', reserve ' || used.reserve as expected,
    coalesce(moved.amount, 0) || ' less ' || coalesce(moved.credited, 0) || ', reserve ' || coalesce(moved.reserve, 0) as found
from used full join moved on id = source
where coalesce(used.amount, 0) <> coalesce(moved.amount, 0) or coalesce(used.credited, 0) <> coalesce(moved.credited, 0)
    or coalesce(used.reserve, 0) <> coalesce(moved.reserve, 0) or used.posted <> moved.posted or (used.id is null)
order by 1 limit $2
"""
_TWICE = """
select id, 'one record' as expected, count(*) || ' records' as found
from billing.usage where organization = $1 group by id having count(*) > 1
union all
select rid, 'one record of this call', string_agg(id, ', ' order by id)
from billing.usage where organization = $1 group by rid having count(distinct id) > 1
order by 1 limit $2
"""
# Above 0 by what was given, below by what was taken; of a record never more than it was charged.
_ADJUSTED = """
with moved as (
    select split_part(id, ':', 1) as id,
        sum(case when debit like 'promotion:%' or debit like 'refund:%' then amount else -amount end) as amount
    from billing.transfer where organization = $1 and kind in ('refund', 'adjustment') group by 1
)
select id, coalesce(made.amount, 0)::text as expected, coalesce(moved.amount, 0)::text as found
from (select id, amount from billing.adjustment where organization = $1) made full join moved using (id)
where coalesce(made.amount, 0) <> coalesce(moved.amount, 0) or made.id is null
union all
select source, 'given back up to ' || coalesce(sum(amount) filter (where kind = 'usage'), 0),
    sum(amount) filter (where kind <> 'usage')::text
from billing.transfer where organization = $1 and kind in ('usage', 'usage_credit', 'refund')
group by source
having coalesce(sum(amount) filter (where kind <> 'usage'), 0) > coalesce(sum(amount) filter (where kind = 'usage'), 0)
order by 1 limit $2
"""
_BALANCES = """
with moved as (
    select account, sum(debits) as debits, sum(credits) as credits from (
        select debit as account, amount as debits, 0 as credits from billing.transfer
        where organization = $1 and phase in ('posted', 'post')
        union all
        select credit, 0, amount from billing.transfer where organization = $1 and phase in ('posted', 'post')
    ) sides group by account
)
select id, 'debits ' || coalesce(moved.debits, 0) || ', credits ' || coalesce(moved.credits, 0) as expected,
    'debits ' || a.debits || ', credits ' || a.credits as found
from billing.account a left join moved on account = id
where organization = $1 and (a.debits <> coalesce(moved.debits, 0) or a.credits <> coalesce(moved.credits, 0)
    or (kind = 'credit' and coalesce(moved.debits, 0) > coalesce(moved.credits, 0)))
order by id limit $2
"""
_DOOR = """
select coalesce(let_in.transfer, money.id) as id, coalesce(money.amount, 0)::text as expected,
    coalesce(let_in.delta, 0)::text as found
from billing.money_in let_in full join (
    select t.id, sum(case when t.kind = 'unknown' then amount
        else case when credit_account.kind in ('credit', 'receivable') then amount else 0 end
            - case when debit_account.kind in ('credit', 'receivable') then amount else 0 end end) as amount
    from billing.transfer t
    join billing.account debit_account on debit_account.id = debit
    join billing.account credit_account on credit_account.id = credit
    where t.organization = $1 and t.kind not in ('usage', 'usage_credit')
        and (t.phase in ('posted', 'post') or (t.kind = 'unknown' and t.phase = 'void'))  -- a reserve that is free again
    group by t.id
) money on money.id = let_in.transfer
where (let_in.organization = $1 or let_in.organization is null) and coalesce(money.amount, 0) <> coalesce(let_in.delta, 0)
union all
select 'money_in', 'sequences 1 to ' || count(*), 'up to ' || max(sequence)
from billing.money_in where organization = $1 having count(*) <> coalesce(max(sequence), 0)
order by 1 limit $2
"""
_ROLLUPS = """
with lines as (
    select date_trunc('hour', created, 'UTC') as hour, project, key, mode, model, line ->> 0 as class,
        sum((line ->> 1)::bigint) as tokens, sum((line ->> 3)::bigint) as amount
    from billing.usage, jsonb_array_elements(lines) line where organization = $1 group by 1, 2, 3, 4, 5, 6
), summed as (
    select hour, project, key, mode, model, class, tokens, amount_nano_usd as amount
    from billing.usage_rollup where organization = $1 and class <> 'request'
)
select to_char(hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24') || ' ' || key || ' ' || mode || ' ' || class as id,
    coalesce(lines.tokens, 0) || ' tokens, ' || coalesce(lines.amount, 0) as expected,
    coalesce(summed.tokens, 0) || ' tokens, ' || coalesce(summed.amount, 0) as found
from lines full join summed using (hour, project, key, mode, model, class)
where lines.tokens is distinct from summed.tokens or lines.amount is distinct from summed.amount
union all
select 'requests', requests || ', credited ' || credited, counted || ', credited ' || given from
    (select count(distinct request_id) as requests, coalesce(sum(credited_nano_usd), 0) as credited
        from billing.usage where organization = $1),
    (select coalesce(sum(requests), 0) as counted, coalesce(sum(credited_nano_usd), 0) as given
        from billing.usage_rollup where organization = $1)
where requests <> counted or credited <> given
order by 1 limit $2
"""
_RESERVED = """
select coalesce(sum(amount), 0)::bigint from billing.transfer t where kind = 'unknown' and phase = 'pending'
    and not exists (select from billing.transfer ended where ended.pending = t.id)
"""
_COMPARISONS = (
    (Check.ONCE, _TWICE),
    (Check.POSTED, _UNPOSTED),
    (Check.ADJUSTED, _ADJUSTED),
    (Check.BALANCE, _BALANCES),
    (Check.DOOR, _DOOR),
    (Check.ROLLUP, _ROLLUPS),
)


async def organizations(connection: Connection) -> list[str]:
    """Everybody with an account or with usage."""
    return [row["organization"] for row in await connection.fetch(_ORGANIZATIONS)]


async def count_records(connection: Connection) -> int:
    return int(await connection.fetchval(_COUNT_RECORDS))


async def reserved(connection: Connection) -> int:
    """Nano-USD that stay reserved for unknown counts."""
    return int(await connection.fetchval(_RESERVED))


async def count_transfers(connection: Connection) -> int:
    return int(await connection.fetchval(_COUNT_TRANSFERS))


async def drained_sequences(connection: Connection) -> dict[str, int]:
    """How far each journal is carried over."""
    return {row["id"]: row["drained_sequence"] for row in await connection.fetch(_DRAINED)}


async def period_sums(connection: Connection, organization: str) -> list[Sums]:
    rows = await connection.fetch(_PERIODS, organization)
    return [Sums(organization=organization, **dict(row)) for row in rows]


async def differing(connection: Connection, organization: str, limit: int) -> list[Difference]:
    """What differs between rows of one organization, at most `limit` of each kind."""
    found: list[Difference] = []
    for check, statement in _COMPARISONS:
        for row in await connection.fetch(statement, organization, limit):
            found.append(
                Difference(
                    check=check,
                    organization=organization,
                    id=row["id"],
                    expected=row["expected"] or "nothing",
                    found=row["found"] or "nothing",
                )
            )
    return found


async def all_records(connection: Connection, page: int) -> AsyncIterator[list[UsageRecord]]:
    """Every record, oldest first, `page` at a time."""
    first = await connection.fetchrow(_FIRST)
    if first is None:
        return
    created, last = first["created"], ""
    while rows := await connection.fetch(_RECORDS, created, last, page):
        yield [to_record(row) for row in rows]
        created, last = rows[-1]["created"], rows[-1]["id"]
