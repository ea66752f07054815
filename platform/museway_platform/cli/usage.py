"""`museway usage`: what was used and what it cost. `usage export`: every record, one JSON object a line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TypeVar

from museway_billing.reports import Bucket, Dimension, UsageFilter, UsageRow
from museway_billing.reports import store as reports
from museway_billing.reports.export import export
from museway_platform.cli.administration import database, organization
from museway_platform.cli.credits import instant
from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.usage_table import show_usage
from museway_platform.database.pool import UNAVAILABLE, Connection, open_connection
from museway_platform.identity.organizations import NotFound
from museway_platform.settings import Settings

_ABOUT = """\
Sums of tokens, requests and money, from the hourly roll-ups that are written with the ledger (a second behind). `museway
usage export` writes the records themselves. Both read the database at hand: MUSEWAY_DATABASE_URL, else the data directory's.
"""
_BUCKETS = {bucket.value: bucket for bucket in Bucket}
_DIMENSIONS = {dimension.value: dimension for dimension in Dimension}
_T = TypeVar("_T")
_AGO = re.compile(r"(\d{1,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] == "export":
        parser = _with_period(Parser("usage export", "Every usage record, oldest first: one JSON object a line."))
        parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="instead of standard output")
        return answer(parser, argv[1:], _export)
    parser = _with_period(Parser("usage", _ABOUT)).with_json()
    parser.add_argument(
        "--by",
        type=_groups,
        default=_groups("mode"),
        metavar="LIST",
        help="of hour, day, week, month (one) and organization, project, key, mode, model, class (default: mode)",
    )
    parser.add_argument("--plot", action=argparse.BooleanOptionalAction, help="draw it too (default: in a terminal)")
    return answer(parser, argv, _sums)


def _with_period(parser: Parser) -> Parser:
    parser.add_argument("--org", help="one organization, by id or name (default: all)")
    parser.add_argument(
        "--since", type=moment, default="30d", metavar="WHEN", help="a date, or 12h, 7d, 4w ago (default: 30d)"
    )
    parser.add_argument("--until", type=moment, default="0h", metavar="WHEN", help="likewise (default: now)")
    return parser


def _groups(text: str) -> tuple[Bucket | None, tuple[Dimension, ...]]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in _BUCKETS and name not in _DIMENSIONS]
    if unknown:
        known = ", ".join([*_BUCKETS, *_DIMENSIONS])
        raise argparse.ArgumentTypeError(f"cannot group by {', '.join(unknown)}; known: {known}")
    buckets = [_BUCKETS[name] for name in names if name in _BUCKETS]
    if len(buckets) > 1:
        raise argparse.ArgumentTypeError("group by one of hour, day, week and month, not by several")
    return (buckets[0] if buckets else None, tuple(_DIMENSIONS[name] for name in names if name in _DIMENSIONS))


def moment(text: str) -> datetime:
    """A date or time, or how long ago. For argparse."""
    if match := _AGO.fullmatch(text):
        return datetime.now(UTC) - int(match[1]) * _UNITS[match[2]]
    return instant(text)


def _sums(args: argparse.Namespace) -> int:
    bucket, by = args.by
    # Roll-ups are by the hour: the hours of both ends are taken whole.
    since = args.since.replace(minute=0, second=0, microsecond=0)
    until = args.until.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)

    async def read(connection: Connection, only: UsageFilter) -> list[UsageRow]:
        return await reports.usage(connection, only, since=since, until=until, bucket=bucket, by=by)

    with database(Settings.load()) as dsn:
        rows = asyncio.run(_reading(dsn, args.org, read))
    plot = sys.stdout.isatty() if args.plot is None else args.plot
    show_usage(rows, bucket, by, as_json=args.json, plot=plot)
    return 0


def _export(args: argparse.Namespace) -> int:
    async def write(connection: Connection, only: UsageFilter) -> None:
        with _sink(args.output) as sink:
            # One snapshot: what is drained while we write is in the next export, whole.
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                async for lines in export(connection, only, since=args.since, until=args.until):
                    sink.write(lines)
            sink.flush()

    with database(Settings.load()) as dsn:
        asyncio.run(_reading(dsn, args.org, write))
    return 0


async def _reading(dsn: str, org: str | None, work: Callable[[Connection, UsageFilter], Awaitable[_T]]) -> _T:
    try:
        async with open_connection(dsn) as connection:
            owner = None if org is None else (await organization(connection, org)).id
            return await work(connection, UsageFilter(organization=owner))
    except NotFound as error:
        raise Failure(str(error)) from error
    except UNAVAILABLE as error:
        raise Failure(f"the database does not answer: {error or type(error).__name__}") from error


@contextlib.contextmanager
def _sink(path: Path | None) -> Generator[IO[bytes]]:
    """The file, whole or not at all; standard output where there is none."""
    if path is None:
        yield sys.stdout.buffer
        return
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as sink:
        yield sink
    partial.replace(path)
