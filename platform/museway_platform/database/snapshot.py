"""The schema that the migrations produce, as text: recorded in `migrations/schema.sql`, compared by `--check`."""

from __future__ import annotations

import argparse
import asyncio
import difflib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from museway_platform.database import cluster
from museway_platform.database.binaries import programs, unprivileged_account
from museway_platform.database.embedded import EmbeddedPostgres, remove
from museway_platform.database.migrate import migrate
from museway_platform.database.pool import open_connection

RECORDED = Path(__file__).parents[1] / "migrations" / "schema.sql"
_HEAD = """\
-- What the migrations produce, as `pg_dump --schema-only` says it. Generated, never edited:
-- python -m museway_platform.database.migrate --write
-- Monthly partitions are left out: which ones exist depends on the day.
"""
_NOISE = re.compile(r"^(--.*|\\(un)?restrict .*|SET .*|SELECT pg_catalog\.set_config.*)$", re.MULTILINE)
_DATED_PARTITIONS = """
    select c.oid::regclass::text from pg_class c
    where c.relispartition and c.relkind = 'r' and pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
"""


def produced() -> str:
    """Migrate an empty throw-away database and dump its schema; about 2 s. Needs the embedded PostgreSQL."""
    folder = Path(tempfile.mkdtemp(prefix="museway-schema-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder, durable=False)
    try:
        return asyncio.run(_dump(server.start(), folder))
    finally:
        server.stop()
        remove(folder)


async def _dump(dsn: str, folder: Path) -> str:
    await migrate(dsn)
    async with open_connection(dsn) as connection:
        partitions: list[str] = [row[0] for row in await connection.fetch(_DATED_PARTITIONS)]
    pg_dump = programs(folder, unprivileged_account()) / "pg_dump"
    exclude = [f"--exclude-table={name}" for name in partitions]
    command = [str(pg_dump), "--schema-only", "--no-owner", "--no-privileges", *exclude, dsn]
    dump = await asyncio.to_thread(_run, command)
    return _HEAD + re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", dump))


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=cluster.environment()).stdout


def main() -> None:
    """Exit 0 if the recorded schema is what the migrations produce, 1 with the difference if not."""
    parser = argparse.ArgumentParser(prog="python -m museway_platform.database.migrate")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare the recorded schema with what migrations produce")
    action.add_argument("--write", action="store_true", help="record what migrations produce")
    arguments = parser.parse_args()
    schema = produced()
    if arguments.write:
        RECORDED.write_text(schema)
        return
    recorded = RECORDED.read_text() if RECORDED.exists() else ""
    if schema != recorded:
        lines = difflib.unified_diff(recorded.splitlines(True), schema.splitlines(True), "recorded", "produced")
        sys.stderr.writelines(lines)
        sys.stderr.write("The migrations do not produce the recorded schema; if that is meant, run with --write.\n")
        sys.exit(1)
