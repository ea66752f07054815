"""What the drain writes besides the ledger: usage rows, and the registry of journals that fences late processes.

Functions take a connection inside the caller's transaction and never commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from msgspec import Struct
from msgspec.json import encode

from museway_billing.timestamp import to_datetime
from museway_billing.usage import UsageRecord

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

UNAVAILABLE: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,  # we were stopped in the middle of a transaction
    asyncpg.InternalClientError,  # of a connection whose server died between two messages: it knows no state for that
)
"""Errors after which the same batch may succeed later, unchanged: PostgreSQL is away, full, or chose us as a victim."""

# The batch travels as one JSON text: a record costs a quarter of what arrays, one a column, cost this process to encode.
# Times are integers of microseconds until PostgreSQL makes timestamps of them; below 2^53 that is exact.
_INSERT_USAGE = """
insert into billing.usage (created, ended, id, request_id, rid, hold_id, organization, project, key, mode, phase, agent, model,
    worker, input, cached_input, measured_input, measured_cached, reasoning, output, unbilled, state, price_version, lines,
    amount_nano_usd, credited_nano_usd, reserve_nano_usd)
select timestamptz 'epoch' + created * interval '1 microsecond', timestamptz 'epoch' + ended * interval '1 microsecond',
    id, request_id, rid, hold_id, organization, project, key, mode, phase, agent, model,
    worker, input, cached_input, measured_input, measured_cached, reasoning, output, unbilled, state, price_version, lines,
    amount_nano_usd, credited_nano_usd, reserve_nano_usd
from json_to_recordset($1::json) as record (created bigint, ended bigint, id text, request_id text, rid text, hold_id text,
    organization text, project text, key text, mode text, phase text, agent integer, model text, worker text, input bigint,
    cached_input bigint, measured_input bigint, measured_cached bigint, reasoning bigint, output bigint, unbilled bigint,
    state text, price_version integer, lines jsonb, amount_nano_usd bigint, credited_nano_usd bigint,
    reserve_nano_usd bigint)
on conflict (created, id) do nothing returning id
"""
_KNOWN_REQUESTS = """
select distinct request_id from billing.usage
where request_id = any($1::text[]) and created >= $2::timestamptz - interval '1 day'
"""
_REGISTER = """
insert into billing.journal (id, host, epoch) values ($1, $2, $3)
on conflict (id) do update set epoch = excluded.epoch, host = excluded.host, seen = now(), closed = null
where billing.journal.epoch <= excluded.epoch
returning drained_sequence
"""
_ADVANCE = """
update billing.journal set drained_sequence = $3, seen = now()
where id = $1 and epoch = $2 and drained_sequence <= $3 and closed is null returning true
"""
_CLOSE = "update billing.journal set closed = now() where id = $1 and epoch = $2"
_MAKE_PARTITIONS = "select billing.make_usage_partitions()"


class Fenced(Exception):
    """Another process has claimed this journal since: what this one still has is no longer its to write. It must stop."""

    def __init__(self, journal: str, epoch: int) -> None:
        super().__init__(f"journal {journal} has been claimed since epoch {epoch}")
        self.journal, self.epoch = journal, epoch


class Inserted(Struct, frozen=True):
    """The records that were not there yet, and the requests of which no record had been there."""

    records: list[UsageRecord]
    requests: set[str]


async def register(connection: Connection, journal: str, *, host: str, epoch: int) -> int:
    """Say that this process owns the journal in this epoch; the number of the last record that is already here.

    Raises Fenced where a later epoch is known.
    """
    drained = await connection.fetchval(_REGISTER, journal, host, epoch)
    if drained is None:
        raise Fenced(journal, epoch)
    return int(drained)


async def advance(connection: Connection, journal: str, *, epoch: int, sequence: int) -> None:
    """Everything up to `sequence` is in this transaction or before it. Raises Fenced."""
    if not await connection.fetchval(_ADVANCE, journal, epoch, sequence):
        raise Fenced(journal, epoch)


async def close(connection: Connection, journal: str, *, epoch: int) -> None:
    """The journal is drained to its end and its folder is about to go."""
    await connection.execute(_CLOSE, journal, epoch)


async def insert_usage(connection: Connection, records: Sequence[UsageRecord]) -> Inserted:
    """Insert those that are not there yet, by (created, id). The first of two with one id stays: the log beats the slot."""
    records = list({record.id: record for record in reversed(records)}.values())[::-1]
    known = await connection.fetch(
        _KNOWN_REQUESTS,
        sorted({record.request_id for record in records}),
        to_datetime(min(record.created for record in records)),
    )
    rows = await connection.fetch(_INSERT_USAGE, encode(records).decode())
    new = {row["id"] for row in rows}
    fresh = [record for record in records if record.id in new]
    return Inserted(fresh, {record.request_id for record in fresh} - {row["request_id"] for row in known})


async def make_partitions(connection: Connection) -> int:
    """Make the usage table's partitions for the months ahead; the number of new ones."""
    return int(await connection.fetchval(_MAKE_PARTITIONS))
