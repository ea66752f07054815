"""`museway restore`: a backup into an empty database, then everything that the journals still have on top."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from museway_billing.journal.redrain import Redrained, redrain
from museway_platform.cli.backup import DUMP, MANIFEST, Manifest
from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.reconcile import JOURNALS
from museway_platform.cli.show import show
from museway_platform.database.dump import NotEmpty, load
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import chain, migrate
from museway_platform.database.pool import UNAVAILABLE, open_connection
from museway_platform.settings import Settings

_ABOUT = """\
Load a backup into an empty database (DATABASE_URL, or the data directory's own), bring its schema to this program's, and drain
again what the backup's journals and those of this data directory have: drained ones are kept for seven days. No usage is lost
that is still in a journal, and none is billed twice. Not in journals: keys, grants, prices and limits set since the backup.
"""


class Restored(Struct, frozen=True, kw_only=True):
    """`records_added`: what the database did not have at the time of the backup."""

    backup_of: str
    schema: str
    records_read: int
    records_added: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("restore", _ABOUT).with_json()
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `museway backup` wrote")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.load()
    manifest = _manifest(args.folder)
    if settings.database_url is not None:
        restored = _load(settings.database_url.reveal(), args.folder, manifest, settings.data_dir / JOURNALS)
    else:
        server = EmbeddedPostgres(settings.data_dir)
        try:
            dsn = server.borrow_or_start()
            restored = _load(dsn, args.folder, manifest, settings.data_dir / JOURNALS)
        finally:
            server.stop()
    show(restored, as_json=args.json)
    return 0


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise Failure(f"{folder} is no backup: {error}", 2) from error
    if manifest.format != 1 or manifest.schema not in [migration.name for migration in chain()]:
        raise Failure(f"{folder} was written by a later program ({manifest.schema}): restore it with that one")
    return manifest


def _load(dsn: str, folder: Path, manifest: Manifest, journals: Path) -> Restored:
    try:
        asyncio.run(load(dsn, folder / DUMP))
        asyncio.run(migrate(dsn))
        parts = [asyncio.run(_redrain(dsn, place)) for place in (folder / JOURNALS, journals)]
    except NotEmpty as error:
        raise Failure("the database is not empty: restore into a new one (nothing was changed)") from error
    except UNAVAILABLE as error:
        raise Failure(f"the database does not answer: {error or type(error).__name__}") from error
    return Restored(
        backup_of=f"{manifest.created:%Y-%m-%d %H:%M:%S}",
        schema=manifest.schema,
        records_read=sum(part.read for part in parts),
        records_added=sum(part.added for part in parts),
    )


async def _redrain(dsn: str, journals: Path) -> Redrained:
    async with open_connection(dsn, statement_timeout_s=None) as connection:
        return await redrain(connection, journals)
