"""PostgreSQL for tests: one real server per pytest process (each xdist worker has its own: 0.4 s), a migrated template,
and a clone of it for each test that asks.

    async def test_something(pool: Pool) -> None: ...        # in a module with `pytestmark = pytest.mark.anyio`
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from museway_platform.database import cluster
from museway_platform.database.binaries import programs, unprivileged_account
from museway_platform.database.embedded import EmbeddedPostgres, remove
from museway_platform.database.migrate import migrate
from museway_platform.database.pool import Pool, open_pool

__all__ = [
    "database",
    "empty_database",
    "migrated_template",
    "other_database",
    "pool",
    "postgres_dsn",
    "postgres_server",
    "throw_away_server",
]

_numbers = itertools.count(1)


@contextmanager
def throw_away_server() -> Generator[EmbeddedPostgres]:
    """A server of one's own (0.4 s), for tests that stop it. Nothing is flushed to disk."""
    folder = Path(tempfile.mkdtemp(prefix="museway-test-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
    server = EmbeddedPostgres(folder, durable=False)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        remove(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """The server of this process. It dies with it, however that ends."""
    with throw_away_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_dsn(postgres_server: EmbeddedPostgres) -> str:
    """The server's own, empty database. Tests that write ask for `database`."""
    return postgres_server.dsn


@pytest.fixture(scope="session")
def migrated_template(postgres_dsn: str) -> str:
    """The name of a database at head that nobody connects to: what `database` clones."""
    _sql(postgres_dsn, "create database template_museway")
    asyncio.run(migrate(_named(postgres_dsn, "template_museway")))
    return "template_museway"


@pytest.fixture
def database(postgres_dsn: str, migrated_template: str) -> Iterator[str]:
    """The DSN of a fresh, migrated database of this test alone."""
    yield from _clone(postgres_dsn, migrated_template)


@pytest.fixture
def other_database(postgres_dsn: str, migrated_template: str) -> Iterator[str]:
    """As `database`, another one."""
    yield from _clone(postgres_dsn, migrated_template)


@pytest.fixture
def empty_database(postgres_dsn: str) -> Iterator[str]:
    """The DSN of a fresh database without any schema of ours."""
    yield from _clone(postgres_dsn, "template0")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on `database`, in the event loop of the test."""
    async with open_pool(database) as opened:
        yield opened


def _clone(dsn: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _sql(dsn, f"create database {name} template {template} strategy file_copy")
    yield _named(dsn, name)
    _sql(dsn, f"drop database {name} with (force)")


def _named(dsn: str, name: str) -> str:
    return dsn.replace(f"/{cluster.DATABASE}?", f"/{name}?")


def _sql(dsn: str, statement: str) -> None:
    """By psql, since a fixture may not block the loop of the test with one of its own."""
    psql = programs(Path(tempfile.gettempdir()), unprivileged_account()) / "psql"
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, dsn]
    subprocess.run(command, check=True, capture_output=True, env=cluster.environment())
