"""The chain of migrations: applied once, in order, never rewritten."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from museway_platform.database import migrate as chain
from museway_platform.database.migrate import Migration, MigrationError, migrate, pending
from museway_platform.database.pool import open_connection
from museway_platform.database.snapshot import RECORDED, produced

pytestmark = pytest.mark.anyio

ONE = Migration(1, "0001_one.sql", "create table one (n int); insert into one values (1);")
TWO = Migration(2, "0002_two.sql", "create table two as select n + 1 as n from one;")
BROKEN = Migration(2, "0002_two.sql", "create table two (n int); select 1 / 0;")


async def value(dsn: str, query: str) -> object:
    async with open_connection(dsn) as connection:
        return await connection.fetchval(query)


async def test_applied_once_and_in_order(empty_database: str) -> None:
    assert await migrate(empty_database, [ONE, TWO]) == ["0001_one.sql", "0002_two.sql"]
    assert await migrate(empty_database, [ONE, TWO]) == []
    assert await value(empty_database, "select n from two") == 2
    assert await value(empty_database, "select array_agg(name order by version) from platform.migration") == [
        "0001_one.sql",
        "0002_two.sql",
    ]


async def test_a_file_that_fails_leaves_what_was_before_it(empty_database: str) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_database, [ONE, BROKEN])
    assert await value(empty_database, "select to_regclass('two')") is None
    assert await migrate(empty_database, [ONE, TWO]) == ["0002_two.sql"]


async def test_history_may_not_change(empty_database: str) -> None:
    await migrate(empty_database, [ONE])
    edited = Migration(1, "0001_one.sql", ONE.sql + " -- a comment")
    with pytest.raises(MigrationError, match=r"0001_one.sql was applied in another form"):
        await migrate(empty_database, [edited, TWO])
    assert await value(empty_database, "select to_regclass('two')") is None


async def test_a_database_that_is_ahead_is_refused(empty_database: str) -> None:
    await migrate(empty_database, [ONE, TWO])
    with pytest.raises(MigrationError, match=r"0002_two.sql, which this program does not know"):
        await migrate(empty_database, [ONE])


async def test_two_at_once_apply_each_file_once(empty_database: str) -> None:
    done = await asyncio.gather(*(migrate(empty_database, [ONE, TWO]) for _ in range(4)))
    assert sorted(done) == [[], [], [], ["0001_one.sql", "0002_two.sql"]]
    assert await value(empty_database, "select count(*) from one") == 1


async def test_what_is_pending_is_told_without_changing_anything(empty_database: str) -> None:
    names = [migration.name for migration in chain.chain()]
    assert await pending(empty_database) == names
    assert await value(empty_database, "select to_regclass('platform.migration')") is None
    await migrate(empty_database)
    assert await pending(empty_database) == []


def test_the_recorded_schema_is_what_the_migrations_produce() -> None:
    assert produced() == RECORDED.read_text(), "python -m museway_platform.database.migrate --write"
