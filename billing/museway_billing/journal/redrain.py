"""After a restore: the journals that are still on the disk, drained again. What the database has already stays as it is."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from museway_billing.journal.keeping import pages
from museway_billing.journal.store import Connection, insert_usage, make_partitions
from museway_billing.ledger.store import post_usage_batch
from museway_billing.reports.rollup import roll_up
from museway_billing.reports.store import add_rollups


class Redrained(Struct, frozen=True):
    """Records read, and those of them that the database did not have."""

    read: int
    added: int


async def redrain(connection: Connection, journals: Path) -> Redrained:
    """Carry every record below `journals` (and beside it, `keeping.py`) to PostgreSQL, a transaction a page, idempotent by
    record id. For a database that no gateway serves. Posted now: books are by the day on which they are written again."""
    async with connection.transaction():
        await make_partitions(connection)
    read = added = 0
    for name, records in pages(journals):
        async with connection.transaction():
            inserted = await insert_usage(connection, records)
            if inserted.records:
                await post_usage_batch(connection, inserted.records, batch=f"restored:{name}")
                await add_rollups(connection, roll_up(inserted.records, inserted.requests))
        read += len(records)
        added += len(inserted.records)
    return Redrained(read, added)
