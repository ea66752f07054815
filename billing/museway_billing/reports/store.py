"""Usage as stored: roll-ups written and read, records read page by page. Functions take a connection and never commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg
import msgspec

from museway_billing.money import NanoUsd
from museway_billing.reports.query import Bucket, Dimension, RecordKey, UsageFilter, UsageRow
from museway_billing.reports.rollup import REQUEST_CLASS, Rollup, RollupKey
from museway_billing.timestamp import to_datetime, to_microseconds
from museway_billing.usage import Line, State, TokenClass, UsageRecord

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_ADD_ROLLUPS = """
insert into billing.usage_rollup as r (organization, hour, project, key, mode, model, class, tokens, amount_nano_usd,
    credited_nano_usd, requests)
select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
on conflict (organization, hour, project, key, mode, model, class) do update set
    tokens = r.tokens + excluded.tokens,
    amount_nano_usd = r.amount_nano_usd + excluded.amount_nano_usd,
    credited_nano_usd = r.credited_nano_usd + excluded.credited_nano_usd,
    requests = r.requests + excluded.requests
"""
_FILTER = """
($1::text is null or organization = $1) and ($2::text[] is null or project = any($2)) and ($3::text[] is null or key = any($3))
and ($4::text[] is null or mode = any($4)) and ($5::text[] is null or model = any($5))
"""
_SUMS = """
coalesce(sum(tokens) filter (where class = 'input'), 0)::bigint as input,
coalesce(sum(tokens) filter (where class = 'cached_input'), 0)::bigint as cached_input,
coalesce(sum(tokens) filter (where class = 'reasoning'), 0)::bigint as reasoning,
coalesce(sum(tokens) filter (where class = 'output'), 0)::bigint as output,
sum(amount_nano_usd)::bigint as amount, sum(credited_nano_usd)::bigint as credited, sum(requests)::bigint as requests
"""
_PAGE = f"""
select *, (select coalesce(sum(amount), 0)::bigint from billing.transfer where source = usage.id and kind = 'refund') as corrected
from billing.usage
where {_FILTER} and created >= $6 and created < $7 and (created, id) > ($8, $9)
order by created, id limit $10
"""
_OF_REQUEST = "select * from billing.usage where request_id = $1 and organization = $2 order by created, id"
_decode_lines = msgspec.json.Decoder(tuple[Line, ...]).decode


class Exported(NamedTuple):
    """A record and what later corrections gave back of it, in nano-USD."""

    record: UsageRecord
    corrected: int


async def add_rollups(connection: Connection, sums: Sequence[tuple[RollupKey, Rollup]]) -> None:
    """Add a batch's sums; they come in key order, so that two drains never wait for each other in a circle."""
    keys, parts = [key for key, _ in sums], [part for _, part in sums]
    await connection.execute(
        _ADD_ROLLUPS,
        [key.organization for key in keys],
        [to_datetime(key.hour) for key in keys],
        [key.project for key in keys],
        [key.key for key in keys],
        [key.mode for key in keys],
        [key.model for key in keys],
        [key.token_class for key in keys],
        [part.tokens for part in parts],
        [part.amount for part in parts],
        [part.credited for part in parts],
        [part.requests for part in parts],
    )


async def usage(
    connection: Connection,
    only: UsageFilter,
    *,
    since: datetime,
    until: datetime,
    bucket: Bucket | None = None,
    by: Sequence[Dimension] = (),
) -> list[UsageRow]:
    """Sums of [since, until), which are cut to whole hours (UTC), in the order of bucket and dimensions.

    Grouped by class, rows are of token classes alone: requests and what was given back belong to none of them and are 0.
    """
    columns = [dimension.column for dimension in dict.fromkeys(by)]
    start = "null::timestamptz" if bucket is None else f"date_trunc('{bucket.value}', hour, 'UTC')"
    named = ", ".join(["1", *(str(place + 2) for place in range(len(columns)))])
    classes = "class <> $8" if Dimension.CLASS in by else "$8::text is not null"
    rows = await connection.fetch(
        f"select {', '.join([f'{start} as start', *columns])}, {_SUMS} from billing.usage_rollup"
        f" where {_FILTER} and hour >= $6 and hour < $7 and {classes} group by {named} order by {named}",
        *_arguments(only),
        since,
        until,
        REQUEST_CLASS,
    )
    return [_usage_row(row, columns) for row in rows]


async def usage_page(
    connection: Connection,
    only: UsageFilter,
    *,
    since: datetime,
    until: datetime,
    after: RecordKey | None,
    limit: int,
) -> list[Exported]:
    """The next records created in [since, until) after `after`, oldest first: constant memory however many there are."""
    created, last = (since, "") if after is None else (to_datetime(after.created), after.id)
    rows = await connection.fetch(_PAGE, *_arguments(only), since, until, created, last, limit)
    return [Exported(to_record(row), row["corrected"]) for row in rows]


async def records_of_request(connection: Connection, request_id: str, organization: str) -> list[UsageRecord]:
    """Everything of one request that is in PostgreSQL; none for another organization's."""
    return [to_record(row) for row in await connection.fetch(_OF_REQUEST, request_id, organization)]


async def record_by_id(connection: Connection, record_id: str) -> UsageRecord | None:
    """One record of anybody's: for operators. Looks through every month."""
    row = await connection.fetchrow("select * from billing.usage where id = $1", record_id)
    return None if row is None else to_record(row)


def to_record(row: asyncpg.Record) -> UsageRecord:
    """A row of billing.usage as the record it was made of."""
    return UsageRecord(
        id=row["id"],
        request_id=row["request_id"],
        rid=row["rid"],
        hold_id=row["hold_id"],
        organization=row["organization"],
        project=row["project"],
        key=row["key"],
        mode=row["mode"],
        phase=row["phase"],
        agent=row["agent"],
        model=row["model"],
        worker=row["worker"],
        input=row["input"],
        cached_input=row["cached_input"],
        measured_input=row["measured_input"],
        measured_cached=row["measured_cached"],
        reasoning=row["reasoning"],
        output=row["output"],
        unbilled=row["unbilled"],
        state=State(row["state"]),
        price_version=row["price_version"],
        lines=_decode_lines(row["lines"]),
        amount_nano_usd=NanoUsd(row["amount_nano_usd"]),
        credited_nano_usd=NanoUsd(row["credited_nano_usd"]),
        reserve_nano_usd=NanoUsd(row["reserve_nano_usd"]),
        created=to_microseconds(row["created"]),
        ended=to_microseconds(row["ended"]),
    )


def _arguments(
    only: UsageFilter,
) -> tuple[str | None, list[str] | None, list[str] | None, list[str] | None, list[str] | None]:
    return (
        only.organization,
        _listed(only.projects),
        _listed(only.keys),
        _listed(only.modes),
        _listed(only.models),
    )


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _usage_row(row: asyncpg.Record, columns: Sequence[str]) -> UsageRow:
    named = {column: str(row[column]) for column in columns}
    token_class = named.get("class")
    return UsageRow(
        start=row["start"],
        organization=named.get("organization"),
        project=named.get("project"),
        key=named.get("key"),
        mode=named.get("mode"),
        model=named.get("model"),
        token_class=None if token_class is None else TokenClass(token_class),
        input=row["input"],
        cached_input=row["cached_input"],
        reasoning=row["reasoning"],
        output=row["output"],
        amount_nano_usd=row["amount"],
        credited_nano_usd=row["credited"],
        requests=row["requests"],
    )
