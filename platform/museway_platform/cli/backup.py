"""`museway backup`: the database in one snapshot, and of the journals what that snapshot does not have. Beside a running
gateway."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from museway_billing.journal.keeping import content, needed_after
from museway_billing.reconcile.store import drained_sequences
from museway_platform.cli.administration import database
from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.reconcile import JOURNALS
from museway_platform.cli.show import show
from museway_platform.database.dump import dumped
from museway_platform.database.pool import UNAVAILABLE
from museway_platform.settings import Settings

DUMP = "database.dump"
MANIFEST = "backup.json"
_ATTEMPTS = 5
_ABOUT = """\
Write a folder from which `museway restore` makes the same database: a consistent snapshot of it, and the journals' records that
were not in it yet. Works beside running gateways. The secrets of the settings are not in it: keep them apart.
"""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds. `journals`: up to which record each is in the database's snapshot."""

    format: int = 1
    created: datetime
    schema: str
    journals: dict[str, int]


class BackedUp(Struct, frozen=True, kw_only=True):
    folder: str
    schema: str
    database_bytes: int
    journal_segments: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("backup", _ABOUT).with_json()
    parser.add_argument("folder", type=Path, metavar="DIR", help="is made; may not exist")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings, folder = Settings.load(), args.folder
    if folder.exists():
        raise Failure(f"{folder} exists already: a backup is a folder of its own")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    with database(settings) as dsn:
        try:
            manifest = asyncio.run(_snapshot(dsn, partial / DUMP))
        except UNAVAILABLE as error:
            raise Failure(f"the database does not answer: {error or type(error).__name__}") from error
    segments = _copy_journals(settings.data_dir / JOURNALS, partial / JOURNALS, manifest.journals)
    (partial / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    partial.rename(folder)
    size = (folder / DUMP).stat().st_size
    done = BackedUp(folder=str(folder), schema=manifest.schema, database_bytes=size, journal_segments=segments)
    show(done, as_json=args.json)
    return 0


async def _snapshot(dsn: str, file: Path) -> Manifest:
    """The database, in the snapshot in which the journals' positions are read."""
    async with dumped(dsn, file) as (connection, schema):
        return Manifest(created=datetime.now(UTC), schema=schema, journals=await drained_sequences(connection))


def _copy_journals(journals: Path, to: Path, drained: dict[str, int]) -> int:
    """Segments with records that the snapshot does not have. A segment that is drained meanwhile moves: look again."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(mode=0o700)
        try:
            needed = needed_after(journals, drained)
            for journal, first, path in needed:
                (to / journal).mkdir(exist_ok=True)
                (to / journal / path.name).write_bytes(content(path, first))
        except FileNotFoundError:
            continue
        return len(needed)
    raise Failure("the journals change faster than they can be copied; try again")
