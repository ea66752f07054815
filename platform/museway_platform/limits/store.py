"""SQL of limits: policies as they are set, and what was spent of caps. Takes a connection, never commits.

What is written here reaches every gateway within a second by `platform.change`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from museway_platform.database.pool import Connection
from museway_platform.limits.limiter import Scope
from museway_platform.limits.policy import Cap, Period, PlanLimits, Policy, RateLimit, RateMetric

_PLAN = msgspec.json.Decoder(PlanLimits)
_RATES = """
select scope, scope_id, metric, nullif(mode, '') as mode, capacity, refill, window_s
from platform.rate_limit where $1::text[] is null or scope_id = any($1) order by scope_id, metric, mode
"""
_CAPS = """
select scope, scope_id, period, amount_nano_usd
from platform.cap where $1::text[] is null or scope_id = any($1) order by scope_id, period
"""
_SET_RATE = """
insert into platform.rate_limit (scope, scope_id, metric, mode, capacity, refill, window_s)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (scope, scope_id, metric, mode)
do update set capacity = excluded.capacity, refill = excluded.refill, window_s = excluded.window_s
"""
_CLEAR_RATE = "delete from platform.rate_limit where scope = $1 and scope_id = $2 and metric = $3 and mode = $4"
_SET_CAP = """
insert into platform.cap (scope, scope_id, period, amount_nano_usd) values ($1, $2, $3, $4)
on conflict (scope, scope_id, period) do update set amount_nano_usd = excluded.amount_nano_usd
"""
_CLEAR_CAP = "delete from platform.cap where scope = $1 and scope_id = $2 and period = $3"
_SET_PLAN = """
insert into platform.plan (id, limits) values ($1, $2) on conflict (id) do update set limits = excluded.limits
"""
# Roll-ups are by the hour of admission; every period begins on an hour. Their key begins with the organization.
_SPENT = """
select wanted.place, (
    select coalesce(sum(r.amount_nano_usd - r.credited_nano_usd), 0)::bigint from billing.usage_rollup r
    where r.organization = wanted.organization and r.hour >= wanted.since
        and (wanted.scope <> 'project' or r.project = wanted.scope_id)
        and (wanted.scope <> 'key' or r.key = wanted.scope_id)
) as spent
from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) with ordinality
    as wanted (scope, scope_id, organization, since, place)
order by wanted.place
"""
_OWNER = """
select k.id as scope_id, p.organization from platform.api_key k join platform.project p on p.id = k.project where k.id = any($1)
union all select id, organization from platform.project where id = any($1)
union all select id, id from platform.organization where id = any($1)
"""


class OrganizationTerms(Struct, frozen=True):
    """What of an organization matters to limits."""

    id: str
    plan: str
    allowance_nano_usd: int


class SpentQuestion(Struct, frozen=True):
    """What a scope spent in the period that began at `since` (ns since the epoch), by admission time."""

    scope: Scope
    scope_id: str
    organization: str
    period: Period
    since: int


async def plans(connection: Connection) -> dict[str, PlanLimits]:
    rows = await connection.fetch("select id, limits from platform.plan order by id")
    return {row["id"]: _PLAN.decode(row["limits"]) for row in rows}


async def set_plan(connection: Connection, plan: str, limits: PlanLimits) -> None:
    """Make a plan, or change what all organizations of it are limited to."""
    await connection.execute(_SET_PLAN, plan, msgspec.json.encode(limits).decode())


async def terms(
    connection: Connection, *, organizations: Sequence[str] | None = None, plans: Sequence[str] = ()
) -> list[OrganizationTerms]:
    """Of these organizations and of those on these plans; None: of all."""
    rows = await connection.fetch(
        "select id, plan, allowance_nano_usd from platform.organization "
        "where $1::text[] is null or id = any($1) or plan = any($2) order by id",
        None if organizations is None else list(organizations),
        list(plans),
    )
    return [OrganizationTerms(row["id"], row["plan"], row["allowance_nano_usd"]) for row in rows]


async def policies(connection: Connection, scope_ids: Sequence[str] | None = None) -> dict[str, Policy]:
    """Limits set on these organizations, projects and keys themselves, without their plan's, by scope id; None: all.
    Who has none is not in it."""
    wanted = None if scope_ids is None else list(scope_ids)
    rates: dict[str, list[RateLimit]] = {}
    caps: dict[str, list[Cap]] = {}
    scopes: dict[str, Scope] = {}
    for row in await connection.fetch(_RATES, wanted):
        scopes[row["scope_id"]] = row["scope"]
        rates.setdefault(row["scope_id"], []).append(
            RateLimit(
                metric=row["metric"],
                capacity=row["capacity"],
                refill=row["refill"],
                window_s=row["window_s"],
                mode=row["mode"],
            )
        )
    for row in await connection.fetch(_CAPS, wanted):
        scopes[row["scope_id"]] = row["scope"]
        caps.setdefault(row["scope_id"], []).append(Cap(period=row["period"], amount_nano_usd=row["amount_nano_usd"]))
    return {
        scope_id: Policy(
            scope=scope, scope_id=scope_id, rates=tuple(rates.get(scope_id, ())), caps=tuple(caps.get(scope_id, ()))
        )
        for scope_id, scope in scopes.items()
    }


async def owners(connection: Connection, scope_ids: Sequence[str]) -> dict[str, str]:
    """The organization of each organization, project or key; who does not exist is not in it."""
    rows = await connection.fetch(_OWNER, list(scope_ids))
    return {row["scope_id"]: row["organization"] for row in rows}


async def spent(connection: Connection, questions: Sequence[SpentQuestion]) -> list[int]:
    """What the ledger has, in nano-USD, in the order asked, in one snapshot."""
    if not questions:
        return []
    rows = await connection.fetch(
        _SPENT,
        [question.scope for question in questions],
        [question.scope_id for question in questions],
        [question.organization for question in questions],
        [datetime.fromtimestamp(question.since // 1_000_000_000, UTC) for question in questions],
    )
    return [row["spent"] for row in rows]


async def set_rate(connection: Connection, scope: Scope, scope_id: str, limit: RateLimit) -> None:
    """Set the scope's own limit of this metric and mode. An organization's stands in place of its plan's."""
    await connection.execute(
        _SET_RATE, scope, scope_id, limit.metric, limit.mode or "", limit.capacity, limit.refill, limit.window_s
    )


async def clear_rate(
    connection: Connection, scope: Scope, scope_id: str, metric: RateMetric, mode: str | None = None
) -> bool:
    """Take a limit back; the plan's counts again. False where there was none."""
    return await connection.execute(_CLEAR_RATE, scope, scope_id, metric, mode or "") != "DELETE 0"


async def set_cap(connection: Connection, scope: Scope, scope_id: str, cap: Cap) -> None:
    """Set what the scope may spend in a period; what it spent in the current one counts."""
    await connection.execute(_SET_CAP, scope, scope_id, cap.period, cap.amount_nano_usd)


async def clear_cap(connection: Connection, scope: Scope, scope_id: str, period: Period) -> bool:
    """False where there was none."""
    return await connection.execute(_CLEAR_CAP, scope, scope_id, period) != "DELETE 0"
