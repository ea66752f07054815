"""The chain of migrations: plain SQL files, in order, each in its own transaction, once.

`python -m museway_platform.database.migrate --check` proves that the chain produces the recorded schema
(`migrations/schema.sql`); `--write` records it. Reviewing a migration is reading the change of that file.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from msgspec import Struct

from museway_platform.database.pool import Connection, open_connection

_LOCK = 0x6D757365776179  # "museway": the advisory lock that lets one process migrate at a time
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_RECORD = """
create schema if not exists platform;
create table if not exists platform.migration (
    version integer primary key,
    name text not null,
    sha256 bytea not null,
    applied timestamptz not null default now()
);
comment on table platform.migration is 'What has been applied; a file may never change afterwards.';
"""


class MigrationError(Exception):
    """The database and this program's migrations disagree; the message is one line for an operator."""


class Migration(Struct, frozen=True):
    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.sql.encode()).digest()


def chain() -> list[Migration]:
    """All migrations that this program brings, in order. Raises MigrationError where numbers repeat or are missing."""
    found: list[Migration] = []
    for file in files("museway_platform").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(version=int(match[1]), name=file.name, sql=file.read_text()))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations are not numbered 1 to {len(found)}: {[m.name for m in found]}")
    return found


async def migrate(dsn: str, migrations: list[Migration] | None = None) -> list[str]:
    """Bring the database to head; the names of what was applied now, none if it was there.

    Two processes at once: the second waits. A file that fails leaves the database as the file before it left it.
    Raises MigrationError where an applied file has changed or the database is ahead of this program.
    """
    wanted = chain() if migrations is None else migrations
    applied: list[str] = []
    async with open_connection(dsn, statement_timeout_s=None) as connection:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)  # freed with the connection
        await connection.execute(_RECORD)
        done = await _verify(connection, wanted)
        for migration in wanted[done:]:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into platform.migration (version, name, sha256) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
            applied.append(migration.name)
    return applied


async def pending(dsn: str) -> list[str]:
    """The names that `migrate` would apply. Changes nothing. Raises MigrationError as `migrate` does."""
    wanted = chain()
    async with open_connection(dsn) as connection:
        if await connection.fetchval("select to_regclass('platform.migration')") is None:
            return [migration.name for migration in wanted]
        return [migration.name for migration in wanted[await _verify(connection, wanted) :]]


async def _verify(connection: Connection, wanted: list[Migration]) -> int:
    """How many are applied, after proving that they are the first of `wanted`, unchanged."""
    rows = await connection.fetch("select version, name, sha256 from platform.migration order by version")
    if len(rows) > len(wanted):
        raise MigrationError(f"the database has {rows[-1]['name']}, which this program does not know: upgrade it")
    for row, migration in zip(rows, wanted, strict=False):
        if row["version"] != migration.version or row["sha256"] != migration.sha256:
            raise MigrationError(
                f"{migration.name} was applied in another form ({row['name']}): history may not change, add a migration"
            )
    return len(rows)


if __name__ == "__main__":
    from museway_platform.database.snapshot import main

    main()
