"""From the journals of this disk to PostgreSQL, at most a second behind, off the caller's time.

One batch, one transaction: usage rows, transfers, roll-ups, the outbox, and the journal's own position under its epoch.
A batch that is repeated finds its rows there and changes nothing. While PostgreSQL is away records stay in the journal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

from museway_billing.journal.journal import Journal
from museway_billing.journal.recovery import Claimed
from museway_billing.journal.store import (
    UNAVAILABLE,
    Fenced,
    Pool,
    advance,
    close,
    insert_usage,
    make_partitions,
    register,
)
from museway_billing.journal.tail import Batch, Tail
from museway_billing.ledger.store import post_usage_batch
from museway_billing.money import NanoUsd
from museway_billing.reports.rollup import roll_up
from museway_billing.reports.store import add_rollups
from museway_billing.usage import UsageRecord

log = logging.getLogger("museway.drain")

BATCH_RECORDS = 250
"""A batch is computed in one go on the event loop: this many take about 5 ms of it, and no request waits longer."""
LAG_MAX = timedelta(seconds=1)
GATHER = timedelta(milliseconds=100)
"""How long a bell is let ring before the batch is taken: at a rate that matters, hundreds of records a transaction."""
BACK_OFF_MAX = timedelta(seconds=5)
PARTITIONS_EVERY = timedelta(hours=6)

OnDrained = Callable[[Mapping[str, NanoUsd]], Awaitable[None]]
"""Told once after each commit: per organization, what moved to the ledger (billed less given back). It must not raise; a
process that is cancelled between commit and call tells nobody: what is shared between processes has to be rebuilt then."""


class Source:
    """One journal being drained."""

    def __init__(self, tail: Tail, on_drained: OnDrained | None, claimed: Claimed | None) -> None:
        self.tail = tail
        self.on_drained = on_drained
        self.claimed = claimed
        self.registered = False
        self.batch: Batch | None = None
        """Read, and not known to be committed."""
        self.moved: dict[str, NanoUsd] = {}
        """What the last attempt to write the batch moves to the ledger, should it be committed."""


class Drain:
    """Drains one process's own journal and any number of claimed ones. `run` and `flush` may overlap."""

    def __init__(
        self, pool: Pool, journal: Journal, *, host: str, on_drained: OnDrained, random: Random | None = None
    ) -> None:
        self._pool = pool
        self._journal = journal
        self._host = host
        self._random = random or Random()
        self._own = Source(journal.pending, on_drained, None)
        self._claimed: list[Source] = []
        self._turn = asyncio.Lock()
        self._level_at = time.monotonic_ns()
        self._partitions_made: int | None = None
        self._still = 0

    def adopt(self, claimed: Claimed, *, on_drained: OnDrained | None = None) -> None:
        """Drain a dead process's journal too, then finish it. Its callback is its own: its usage was never this process's
        limiter's, unless limits are shared."""
        self._claimed.append(Source(claimed.tail, on_drained, claimed))

    @property
    def lag_records(self) -> int:
        """Durable records of this process's journal that are not in PostgreSQL yet."""
        return self._journal.durable_sequence - self._own.tail.drained_sequence

    @property
    def lag_ns(self) -> int:
        """For how long records have waited at most: since everything was drained last. 0 where none waits."""
        return 0 if self.lag_records == 0 else time.monotonic_ns() - self._level_at

    async def run(self) -> None:
        """Drain until cancelled. Raises Fenced: another process has claimed this one's journal, which must stop now.

        Any other error that is not PostgreSQL's absence is a fault of ours and ends it, too.
        """
        failures = 0
        while True:
            if failures == 0:
                await self._wait_for_records()
            try:
                await self.flush()
                failures = 0
            except UNAVAILABLE as error:
                if isinstance(error, ValueError):  # asyncpg cannot encode a value now, and could not later
                    raise
                failures += 1
                log.warning("PostgreSQL is away, %d records wait: %r", self.lag_records, error)
                await asyncio.sleep(self._back_off(failures))

    async def flush(self) -> None:
        """Drain everything that is durable now. Raises Fenced, and one of UNAVAILABLE where PostgreSQL does not answer."""
        async with self._turn:
            await self._make_partitions()
            if not self._still:
                await self._drain(self._own)
            for source in list(self._claimed):
                try:
                    await self._drain(source)
                except Fenced as fenced:
                    log.warning("%s; leaving it to its new owner", fenced)
                    self._drop(source)
                else:
                    await self._finish(source)
            self._level_at = time.monotonic_ns()

    @asynccontextmanager
    async def standing_still(self) -> AsyncGenerator[int]:
        """Inside, nothing of this process's own journal moves to PostgreSQL; gives the number of the last record that did.

        Raises one of UNAVAILABLE where PostgreSQL does not answer: it may have a batch that we don't know of.
        """
        async with self._turn:
            await self._drain(self._own)
            self._still += 1
        try:
            yield self._own.tail.drained_sequence
        finally:
            self._still -= 1

    async def close(self) -> None:
        """The last `flush`, after the last request: tells the registry that this journal has come to its end."""
        await self.flush()
        async with self._turn:
            if self._journal.open_slots == 0 and self.lag_records == 0:
                async with self._pool.acquire() as connection, connection.transaction():
                    await close(connection, self._journal.id, epoch=self._journal.epoch)

    async def _wait_for_records(self) -> None:
        try:
            async with asyncio.timeout((LAG_MAX - GATHER).total_seconds()):
                await self._journal.appended()
        except TimeoutError:
            return
        await asyncio.sleep(GATHER.total_seconds())

    def _back_off(self, failures: int) -> int:
        """Whole seconds, at random up to twice as long each time: gateways that lost one database return apart."""
        most = min(1 << min(failures, 10), int(BACK_OFF_MAX.total_seconds()))
        return self._random.randint(1, most)

    async def _make_partitions(self) -> None:
        now = int(asyncio.get_running_loop().time())
        if self._partitions_made is None or now - self._partitions_made > PARTITIONS_EVERY.total_seconds():
            async with self._pool.acquire() as connection, connection.transaction():
                await make_partitions(connection)
            self._partitions_made = now

    async def _drain(self, source: Source) -> None:
        if not source.tail.is_there:
            raise Fenced(source.tail.id, source.tail.epoch)  # who claimed it has finished with it
        while True:
            if not source.registered:
                await self._register(source)
            if source.batch is None:
                batch = source.tail.read(BATCH_RECORDS)
                if not batch.records:
                    return
                source.batch = batch
            source.registered = False  # until this batch's transaction is known to have ended, one way or the other
            await self._write(source, source.batch)
            source.registered = True
            await self._written(source, source.batch)

    async def _register(self, source: Source) -> None:
        """Learn where PostgreSQL is. A batch whose commit was never answered may be there, or not."""
        tail = source.tail
        async with self._pool.acquire() as connection, connection.transaction():
            drained = await register(connection, tail.id, host=self._host, epoch=tail.epoch)
        source.registered = True
        if source.batch is None:
            tail.seek(drained)
        elif drained >= source.batch.last:
            await self._written(source, source.batch)

    async def _write(self, source: Source, batch: Batch) -> None:
        tail = source.tail
        async with self._pool.acquire() as connection, connection.transaction():
            inserted = await insert_usage(connection, batch.records)
            if inserted.records:
                await post_usage_batch(connection, inserted.records, batch=f"{tail.id}:{batch.last}")
                await add_rollups(connection, roll_up(inserted.records, inserted.requests))
            await advance(connection, tail.id, epoch=tail.epoch, sequence=batch.last)
            source.moved = _net(inserted.records)

    async def _written(self, source: Source, batch: Batch) -> None:
        source.batch = None
        source.tail.drained(batch.last)
        if source.on_drained is not None:
            await source.on_drained(source.moved)

    async def _finish(self, source: Source) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await close(connection, source.tail.id, epoch=source.tail.epoch)
        assert source.claimed is not None
        source.claimed.finish()
        self._claimed.remove(source)

    def _drop(self, source: Source) -> None:
        assert source.claimed is not None
        source.claimed.home.release()
        self._claimed.remove(source)


def _net(records: Iterable[UsageRecord]) -> dict[str, NanoUsd]:
    """What was taken of each organization's money."""
    amounts: dict[str, NanoUsd] = {}
    for record in records:
        amounts[record.organization] = NanoUsd(amounts.get(record.organization, 0) + record.taken_nano_usd)
    return amounts
