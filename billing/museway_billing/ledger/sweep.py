"""What time alone brings about in the books: credit that expires, unknown counts that are given up. A minute behind at most.

Any number of processes may sweep at once: each posting has an id of its own, and an organization's lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from museway_billing.journal.store import UNAVAILABLE, Pool
from museway_billing.ledger.corrections.store import UNKNOWN_LAPSES_AFTER, lapse_unknown, reserves
from museway_billing.ledger.store import expired_credit, lapse_expired

log = logging.getLogger("museway.sweep")

EVERY_S = 30


async def sweep(pool: Pool, *, now: datetime) -> int:
    """Post what is due at `now`; the number of postings. One transaction for each organization and kind."""
    async with pool.acquire() as connection:
        expired = await expired_credit(connection, now=now)
        unknown = await reserves(connection, before=now - UNKNOWN_LAPSES_AFTER)
    posted = 0
    for organization in expired:
        async with pool.acquire() as connection, connection.transaction():
            posted += len(await lapse_expired(connection, organization, now=now))
    for organization in dict.fromkeys(reserve.organization for reserve in unknown):
        async with pool.acquire() as connection, connection.transaction():
            posted += len(await lapse_unknown(connection, organization, now=now))
    return posted


async def run(pool: Pool, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
    """Sweep until cancelled; while PostgreSQL is away it waits for the next turn."""
    while True:
        try:
            posted = await sweep(pool, now=clock())
        except UNAVAILABLE as error:
            log.warning("PostgreSQL is away, nothing lapses: %r", error)
        else:
            if posted:
                log.info("%d postings were due", posted)
        await asyncio.sleep(EVERY_S)
