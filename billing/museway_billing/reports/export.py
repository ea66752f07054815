"""`usage export`: one JSON object a line, one line a record, its keys in the order of DESIGN §4."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
from msgspec import Struct

from museway_billing.reports.query import RecordKey, UsageFilter
from museway_billing.reports.store import Connection, usage_page
from museway_billing.timestamp import rfc3339
from museway_billing.usage import UsageRecord

PAGE_RECORDS = 1000


class ExportLine(Struct, frozen=True, kw_only=True):
    """A record as it is exported. Null is unknown, never 0. Times: RFC 3339, UTC, microseconds."""

    id: str
    request_id: str
    rid: str
    organization: str
    project: str
    key: str
    mode: str
    phase: str
    agent: int
    model: str
    worker: str | None
    input: int | None
    cached_input: int | None
    measured_input: int | None
    measured_cached: int | None
    reasoning: int | None
    output: int | None
    unbilled: int | None
    state: str
    price_version: int
    amount_nano_usd: int
    credited_nano_usd: int
    created: str
    ended: str


_SAME = tuple(
    name for name in ExportLine.__struct_fields__ if name not in {"state", "credited_nano_usd", "created", "ended"}
)
_encode = msgspec.json.Encoder().encode


def export_line(record: UsageRecord, corrected: int = 0) -> bytes:
    """One line, its newline included. `corrected`: what was given back later, by corrections."""
    line = ExportLine(
        **{name: getattr(record, name) for name in _SAME},
        credited_nano_usd=record.credited_nano_usd + corrected,
        state=record.state.value,
        created=rfc3339(record.created),
        ended=rfc3339(record.ended),
    )
    return _encode(line) + b"\n"


async def export(
    connection: Connection, only: UsageFilter, *, since: datetime, until: datetime
) -> AsyncIterator[bytes]:
    """Records created in [since, until), oldest first, in chunks of whole lines. Constant memory.

    Pages are read one after the other: what is drained meanwhile, and was created after the page, is in it.
    """
    after: RecordKey | None = None
    while page := await usage_page(connection, only, since=since, until=until, after=after, limit=PAGE_RECORDS):
        yield b"".join(export_line(*exported) for exported in page)
        after = RecordKey(page[-1].record.created, page[-1].record.id)
