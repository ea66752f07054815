"""The watch: a change arrives by notification or by the next poll, through any loss of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from museway_platform.database.changes import Change, ChangeReader, prune
from museway_platform.database.pool import Connection, Pool, open_connection
from museway_platform.database.watch import Poll, Watch

pytestmark = pytest.mark.anyio

SLOW_S = 60.0
"""An interval that no test waits for: what arrives was woken."""


@asynccontextmanager
async def watched(watch: Watch) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(watch.run())
        await asyncio.wait_for(watch.caught_up(), 10)
        try:
            yield
        finally:
            running.cancel()


class Rounds:
    """Counts polls; `next` waits for one more."""

    def __init__(self) -> None:
        self.backends: list[int] = []
        self._ends: asyncio.Queue[None] = asyncio.Queue()

    async def poll(self, connection: Connection) -> None:
        self.backends.append(await connection.fetchval("select pg_backend_pid()"))
        self._ends.put_nowait(None)

    async def next(self) -> None:
        while not self._ends.empty():
            self._ends.get_nowait()
        await asyncio.wait_for(self._ends.get(), 10)


async def test_a_notification_wakes_the_poll(database: str, pool: Pool) -> None:
    rounds = Rounds()
    async with watched(Watch(database, ("museway_identity",), (rounds.poll,), SLOW_S)):
        waiting = asyncio.ensure_future(rounds.next())
        await pool.execute("notify museway_identity, 'key_1'")
        await waiting


async def test_without_one_it_polls_all_the_same(database: str) -> None:
    rounds = Rounds()
    async with watched(Watch(database, (), (rounds.poll,), 0.01)):
        await rounds.next()
        await rounds.next()


async def test_a_lost_connection_is_made_again(database: str, pool: Pool) -> None:
    rounds = Rounds()
    async with watched(Watch(database, (), (rounds.poll,), 0.01)):
        first = rounds.backends[-1]
        assert await pool.fetchval("select pg_terminate_backend($1)", first)
        async with asyncio.timeout(10):
            while rounds.backends[-1] == first:
                await rounds.next()


async def test_one_round_runs_all_polls_in_order(database: str) -> None:
    seen: list[str] = []

    def noting(name: str) -> Poll:
        async def poll(_: Connection) -> None:
            seen.append(name)

        return poll

    async with watched(Watch(database, (), (noting("a"), noting("b")), SLOW_S)):
        assert seen[:4] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("statement", ["select 1 / 0", "select no_such_column"])
async def test_a_fault_of_ours_ends_it(database: str, statement: str) -> None:
    async def broken(connection: Connection) -> None:
        await connection.execute(statement)

    with pytest.raises(asyncpg.PostgresError):
        await asyncio.wait_for(Watch(database, (), (broken,)).run(), 10)


async def test_a_value_that_cannot_be_encoded_is_a_fault_of_ours(database: str) -> None:
    async def broken(connection: Connection) -> None:
        await connection.fetchval("select $1::int", "not a number")

    with pytest.raises(asyncpg.DataError):
        await asyncio.wait_for(Watch(database, (), (broken,)).run(), 10)


async def test_changes_are_read_from_where_one_begins(database: str, pool: Pool) -> None:
    await pool.execute("insert into platform.change (kind, subject) values ('key', 'key_0')")
    reader = ChangeReader()
    async with open_connection(database) as connection:
        assert await reader.read(connection) is None
        assert await reader.read(connection) == []
        await pool.execute("insert into platform.change (kind, subject) values ('key', 'key_1'), ('key', 'key_1')")
        assert await reader.read(connection) == [Change("key", "key_1")]
        assert await reader.read(connection) == []


async def test_a_change_that_commits_after_a_younger_one_was_read_is_not_skipped(database: str, pool: Pool) -> None:
    reader = ChangeReader()
    async with open_connection(database) as connection, open_connection(database) as slow:
        await reader.read(connection)
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute("insert into platform.change (kind, subject) values ('key', 'slow')")
        await pool.execute("insert into platform.change (kind, subject) values ('key', 'fast')")
        assert await reader.read(connection) == [Change("key", "fast")]
        await transaction.commit()
        assert Change("key", "slow") in (await reader.read(connection) or [])


async def test_changes_are_kept_for_a_day(pool: Pool) -> None:
    await pool.execute(
        "insert into platform.change (kind, subject, created) "
        "values ('key', 'old', now() - interval '25 hours'), ('key', 'new', now() - interval '23 hours')"
    )
    async with pool.acquire() as connection:
        await prune(connection)
    assert [row["subject"] for row in await pool.fetch("select subject from platform.change where kind = 'key'")] == [
        "new"
    ]
