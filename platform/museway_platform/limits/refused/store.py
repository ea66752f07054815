"""SQL of refused requests. Takes a connection, never commits."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import cast

import msgspec

from museway_platform.database.pool import Connection, Record
from museway_platform.limits.limiter import Holder
from museway_platform.limits.refused.record import RefusedRequest

KEPT = timedelta(days=30)

_INSERT = """
insert into platform.refused_request (
    request_id, organization, project, key, mode, code, scope, scope_id, metric, limit_mode, "limit", used, held, asked,
    retry_after_s, holders, times, created)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
on conflict do nothing
"""
_LIST = """
select * from platform.refused_request
where organization = $1 and ($2::text is null or key = $2) and ($3::timestamptz is null or created < $3)
order by created desc, request_id desc limit $4
"""
_PRUNE = "delete from platform.refused_request where created < $1"


_FIELDS = tuple(field.name for field in msgspec.structs.fields(RefusedRequest))


async def keep(connection: Connection, refused: Iterable[RefusedRequest]) -> None:
    await connection.executemany(_INSERT, [_row(one) for one in refused])


async def prune(connection: Connection, now: datetime) -> None:
    """Forget those older than `KEPT`."""
    await connection.execute(_PRUNE, now - KEPT)


async def refused_requests(
    connection: Connection, organization: str, *, key: str | None = None, before: datetime | None = None, limit: int
) -> list[RefusedRequest]:
    """The newest first, at most `limit` that are older than `before`."""
    return [_of(row) for row in await connection.fetch(_LIST, organization, key, before, limit)]


def _of(row: Record) -> RefusedRequest:
    values = dict(cast("dict[str, object]", row))
    values["holders"] = msgspec.json.decode(cast("str", values["holders"]), type=list[Holder])
    return msgspec.convert(values, RefusedRequest)


def _row(one: RefusedRequest) -> tuple[object, ...]:
    values = msgspec.structs.asdict(one)
    values["holders"] = msgspec.json.encode(one.holders).decode()
    return tuple(values[name] for name in _FIELDS)
