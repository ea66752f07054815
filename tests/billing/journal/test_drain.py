"""From journal to ledger: each record once, whatever happens between append and commit."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import asyncpg
import pytest
from msgspec import structs

from calls import BOOK, WORKER, finished, identity, record
from museway_billing.journal import Batch, Journal
from museway_billing.journal.drain import Drain, Source
from museway_billing.journal.recovery import claim_dead
from museway_billing.journal.store import UNAVAILABLE, Fenced, register
from museway_billing.ledger.store import balance, grant
from museway_billing.money import NanoUsd
from museway_billing.prices.store import seed
from museway_billing.reconcile import reconcile
from museway_platform.database.embedded import EmbeddedPostgres, remove
from museway_platform.database.migrate import migrate
from museway_platform.database.pool import Pool, open_pool

pytestmark = pytest.mark.anyio

ONE = record(1).amount_nano_usd


class Told:
    """The limiter's side of the drain: what it is told."""

    def __init__(self) -> None:
        self.amounts: dict[str, int] = {}
        self.again = asyncio.Event()

    async def __call__(self, amounts: Mapping[str, NanoUsd]) -> None:
        for organization, amount in amounts.items():
            self.amounts[organization] = self.amounts.get(organization, 0) + amount
        self.again.set()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path, process="gateway", slots=64, segment_bytes=1 << 14)
    yield opened
    await opened.close()


@pytest.fixture
def told() -> Told:
    return Told()


async def write(journal: Journal, *numbers: int, organization: str = "org_a", credit: bool = False) -> None:
    for number in numbers:
        slot = journal.open_slot(identity(number, organization=organization))
        slot.dispatched(WORKER)
        await journal.append(finished(slot.identity, credit=credit))
        slot.free()


async def proven(pool: Pool, journals: Path) -> int:
    """The number of records in books that reconcile."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            assert (await seed(connection)).versions == BOOK.versions
        report = await reconcile(connection, journals=journals)
    assert report.ok, report.differences
    return report.records


async def turns_until_done(work: Coroutine[None, None, None], *, most: int | None) -> int:
    """Run it for at most so many turns of the event loop, then cancel it. The turns it took."""
    task = asyncio.ensure_future(work)
    turns = 0
    while not task.done() and (most is None or turns < most):
        await asyncio.sleep(0)
        turns += 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return turns


async def test_a_flush_carries_everything_over(pool: Pool, journal: Journal, told: Told, tmp_path: Path) -> None:
    drain = Drain(pool, journal, host="h", on_drained=told)
    await write(journal, *range(1, 41))
    await write(journal, 41, organization="org_b", credit=True)
    assert drain.lag_records == 41
    await drain.flush()
    assert drain.lag_records == 0
    assert told.amounts == {"org_a": 40 * ONE, "org_b": 0}
    assert await proven(pool, tmp_path) == 41
    async with pool.acquire() as connection:
        assert (await balance(connection, "org_a")).posted == -40 * ONE
    await drain.close()
    await journal.close()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_it_runs_beside_the_requests(pool: Pool, journal: Journal, told: Told) -> None:
    drain = Drain(pool, journal, host="h", on_drained=told)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(drain.run())
        for number in range(1, 6):
            told.again.clear()
            await write(journal, number)
            await told.again.wait()
        running.cancel()
    assert told.amounts == {"org_a": 5 * ONE}


async def test_nothing_is_doubled_when_it_dies_between_append_and_commit(
    pool: Pool, journal: Journal, told: Told, tmp_path: Path
) -> None:
    """Cancelled at sixty moments from its first step to its last; what comes after does the rest, and only the rest."""
    await write(journal, 1)
    steps_all = await turns_until_done(Drain(pool, journal, host="h", on_drained=told).flush(), most=None)
    for number in range(2, 62):
        await write(journal, number)
        drain = Drain(pool, journal, host="h", on_drained=told)
        await turns_until_done(drain.flush(), most=steps_all * number // 55)
    await Drain(pool, journal, host="h", on_drained=told).flush()
    assert await proven(pool, tmp_path) == 61


async def test_a_record_that_is_in_the_log_twice_is_billed_once(
    pool: Pool, journal: Journal, told: Told, tmp_path: Path
) -> None:
    await journal.append(record(1))
    await journal.append(structs.replace(record(1), output=0))
    drain = Drain(pool, journal, host="h", on_drained=told)
    await drain.flush()
    await journal.append(structs.replace(record(1), output=1))
    await drain.flush()
    assert await proven(pool, tmp_path) == 1
    async with pool.acquire() as connection:
        assert await connection.fetchval("select output from billing.usage") == record(1).output
    assert told.amounts == {"org_a": ONE}


async def test_a_commit_without_an_answer_is_asked_after(
    pool: Pool, journal: Journal, told: Told, tmp_path: Path
) -> None:
    """The commit succeeds, its answer is lost: the drain asks, writes nothing twice, and tells the limiter once."""

    class AnswerLost(Drain):
        async def _write(self, source: Source, batch: Batch) -> None:
            await super()._write(source, batch)
            raise asyncpg.ConnectionDoesNotExistError("gone")

    drain = AnswerLost(pool, journal, host="h", on_drained=told)
    await write(journal, 1, 2)
    with pytest.raises(UNAVAILABLE):
        await drain.flush()
    assert told.amounts == {}
    await drain.flush()
    assert told.amounts == {"org_a": 2 * ONE}
    assert await proven(pool, tmp_path) == 2


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of the test's own, so that it can be stopped."""
    folder = Path(tempfile.mkdtemp(prefix="museway-drain-"))
    folder.chmod(0o711)
    own = EmbeddedPostgres(folder, durable=False)
    own.start()
    yield own
    own.stop()
    remove(folder)


async def test_with_postgresql_away_the_journal_goes_on_and_catches_up(
    server: EmbeddedPostgres, journal: Journal, told: Told, tmp_path: Path
) -> None:
    await migrate(server.dsn)
    async with open_pool(server.dsn) as pool:
        drain = Drain(pool, journal, host="h", on_drained=told, random=Random(1))
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = group.create_task(drain.run())
            await write(journal, 1)
            await told.again.wait()
            await asyncio.to_thread(server.stop)
            told.again.clear()
            await write(journal, 2, 3)
            with pytest.raises(UNAVAILABLE):
                await drain.flush()
            assert drain.lag_records == 2
            await asyncio.to_thread(server.start)
            await told.again.wait()
            running.cancel()
        assert told.amounts == {"org_a": 3 * ONE}
        assert await proven(pool, tmp_path) == 3


async def test_a_process_that_wakes_late_is_fenced(pool: Pool, journal: Journal, told: Told) -> None:
    drain = Drain(pool, journal, host="h", on_drained=told)
    await write(journal, 1)
    await drain.flush()
    await write(journal, 2)
    async with pool.acquire() as connection, connection.transaction():
        assert await register(connection, journal.id, host="other", epoch=journal.epoch + 1) == 1
    with pytest.raises(Fenced):
        await drain.flush()
    async with pool.acquire() as connection:
        assert await connection.fetchval("select count(*) from billing.usage") == 1
    with pytest.raises(Fenced):
        await drain.run()


async def test_two_journals_into_one_ledger(pool: Pool, tmp_path: Path, told: Told) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await grant(connection, "org_a", NanoUsd(30 * ONE), "txn_1")
    one = await Journal.open(tmp_path, process="one")
    two = await Journal.open(tmp_path, process="two")
    drains = [Drain(pool, journal, host="h", on_drained=told) for journal in (one, two)]
    for number in range(1, 41, 2):
        await asyncio.gather(write(one, number), write(two, number + 1), *(drain.flush() for drain in drains))
    for drain, journal in zip(drains, (one, two), strict=True):
        await drain.close()
        await journal.close()
    assert told.amounts == {"org_a": 40 * ONE}
    assert await proven(pool, tmp_path) == 40
    async with pool.acquire() as connection:
        now = await balance(connection, "org_a")
    assert (now.credit, now.receivable) == (0, 10 * ONE)


async def test_a_dead_neighbours_journal_is_drained_and_removed(pool: Pool, tmp_path: Path, told: Told) -> None:
    dead = await Journal.open(tmp_path / "a", process="dead")
    await write(dead, 1, 2)
    dead.open_slot(identity(3)).dispatched(WORKER)
    await dead.close()
    journal = await Journal.open(tmp_path / "b", process="gateway")
    drain = Drain(pool, journal, host="h", on_drained=told)
    for claimed in claim_dead(tmp_path / "a", ended=0):
        drain.adopt(claimed)
    await drain.flush()
    assert told.amounts == {}, "its usage was never this process's limiter's"
    assert await proven(pool, tmp_path / "a") == 3
    assert list((tmp_path / "a").iterdir()) == []
    async with pool.acquire() as connection:
        closed = await connection.fetch("select closed is not null from billing.journal order by id")
    assert [row[0] for row in closed] == [True, False]
    await journal.close()
