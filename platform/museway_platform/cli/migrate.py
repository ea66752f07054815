"""`museway migrate`: the schema to head. Before new gateways start, never while old ones are mid-upgrade."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from msgspec import Struct

from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.show import show
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import migrate, pending
from museway_platform.database.pool import UNAVAILABLE
from museway_platform.settings import Settings


class Migrated(Struct, frozen=True, kw_only=True):
    """Names of migrations: done now, or still to do with `--dry-run`."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]


def main(argv: Sequence[str]) -> int:
    parser = Parser(
        "migrate", "Bring the database's schema to the newest version; does nothing where it is."
    ).with_json()
    parser.add_argument("--dry-run", action="store_true", help="only say what would be applied")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.load()
    if settings.database_url is not None:
        result = _bring(settings.database_url.reveal(), dry=args.dry_run)
    else:
        server = EmbeddedPostgres(settings.data_dir)
        try:
            result = _bring(server.borrow_or_start(), dry=args.dry_run)
        finally:
            server.stop()
    show(result, as_json=args.json)
    return 0


def _bring(dsn: str, *, dry: bool) -> Migrated:
    try:
        if dry:
            return Migrated(applied=(), pending=tuple(asyncio.run(pending(dsn))))
        return Migrated(applied=tuple(asyncio.run(migrate(dsn))), pending=())
    except UNAVAILABLE as error:
        raise Failure(f"the database does not answer: {error or type(error).__name__}") from error
