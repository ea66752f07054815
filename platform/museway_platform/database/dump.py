"""The whole database into a file and back, by PostgreSQL's own pg_dump and pg_restore, which the embedded server brings."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from museway_platform.database import cluster
from museway_platform.database.binaries import EmbeddedPostgresError, programs
from museway_platform.database.pool import Connection, open_connection

_EXPORT = "select pg_export_snapshot()"
_SCHEMA = "select name from platform.migration order by version desc limit 1"
_USED = "select to_regnamespace('billing') is not null or to_regnamespace('platform') is not null"


class NotEmpty(Exception):
    """There is something of ours in the database already; nothing was changed."""


@asynccontextmanager
async def dumped(dsn: str, file: Path) -> AsyncGenerator[tuple[Connection, str]]:
    """Write the dump; gives a connection in the very snapshot that is in the file, and the name of its newest migration.

    Raises EmbeddedPostgresError with pg_dump's last words (a server of a later version than this one's, say).
    """
    async with (
        open_connection(dsn, statement_timeout_s=None) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        snapshot: str = await connection.fetchval(_EXPORT)
        schema: str = await connection.fetchval(_SCHEMA)
        options = ("--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={file}")
        await asyncio.to_thread(_run, "pg_dump", dsn, *options)
        yield connection, schema


async def load(dsn: str, file: Path) -> None:
    """All of a dump, or nothing. Raises NotEmpty, EmbeddedPostgresError."""
    async with open_connection(dsn) as connection:
        if await connection.fetchval(_USED):
            raise NotEmpty
    options = ("--no-owner", "--exit-on-error", "--single-transaction", str(file))
    await asyncio.to_thread(_run, "pg_restore", dsn, *options)


def _run(name: str, dsn: str, *arguments: str) -> None:
    """As ourselves, not as the server's user. The password goes by the environment: everybody can read command lines."""
    parts = urlsplit(dsn)
    shown = urlunsplit(parts._replace(netloc=re.sub(r":[^:@/]*@", "@", parts.netloc)))
    secret = {} if parts.password is None else {"PGPASSWORD": unquote(parts.password)}
    command = [str(programs(Path("/"), None) / name), f"--dbname={shown}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=cluster.environment() | secret, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EmbeddedPostgresError(f"{name} failed: {said[-1] if said else done.returncode}")
