"""`museway reconcile`: prove on what is stored that every token and nano-dollar adds up, or name what differs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from museway_billing.reconcile import Progress, Report, Sums, reconcile, silent
from museway_platform.cli.administration import database
from museway_platform.cli.money import dollars
from museway_platform.cli.prompt import FAILED, Failure, Parser, answer
from museway_platform.cli.show import show, write_line
from museway_platform.database.pool import UNAVAILABLE, open_connection
from museway_platform.settings import Settings

JOURNALS = "journal"
"""Where in a data directory a gateway keeps its journals."""

_TELL_EVERY_S = 0.2

_ABOUT = """\
Compute every record's price again from its price version, every balance from its transfers, and every sum from its parts;
look into the journals of this disk for what is not in the database yet. Changes nothing, works beside running gateways.
Exit status 1, with the ids, where something differs.
"""


def main(argv: Sequence[str]) -> int:
    return answer(Parser("reconcile", _ABOUT).with_json(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.load()
    with database(settings) as dsn:
        try:
            with _watched() as progress:
                report = asyncio.run(report_on(dsn, settings.data_dir / JOURNALS, progress))
        except UNAVAILABLE as error:
            raise Failure(f"the database does not answer: {error or type(error).__name__}") from error
    if args.json:
        show(report, as_json=True)
    else:
        for line in told(report):
            write_line(line)
    return 0 if report.ok else FAILED


async def report_on(dsn: str, journals: Path, progress: Progress = silent) -> Report:
    """Raises one of UNAVAILABLE. No statement is cut short: a big ledger takes its time."""
    async with open_connection(dsn, statement_timeout_s=None) as connection:
        return await reconcile(connection, journals=journals, progress=progress)


@contextlib.contextmanager
def _watched() -> Generator[Progress]:
    """How far it has come, on one line of a terminal; nothing where standard error is none."""
    if not sys.stderr.isatty():
        yield silent
        return
    told = 0.0

    def tell(what: str, done: int, of: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _TELL_EVERY_S:
            told = now
            sys.stderr.write(f"\r\x1b[K  {what}: {done:,} of {of:,}")
            sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def told(report: Report) -> list[str]:
    """The report for a person."""
    lines = [f"{many(report.records, 'record')}, {many(report.transfers, 'transfer')}"]
    for sums in report.sums:
        lines.append(
            f"  {sums.organization} {sums.period}: {many(sums.records, 'record')},"
            f" usage {dollars(sums.usage)} - given back {dollars(sums.credited)}"
            f"{_later(sums)} = credit used {dollars(sums.credit_used)} + receivable {dollars(sums.receivable)}"
        )
    if report.unknown:
        lines.append(
            f"  {many(report.unknown, 'record')} of unknown count, {dollars(report.reserved)} reserved for them"
        )
    for journal in report.journals:
        if journal.records or journal.open_slots:
            state = "of a running gateway" if journal.alive else "of a process that is gone"
            lines.append(
                f"  journal {journal.id} ({state}): {many(journal.records, 'record')} on the way"
                f" ({dollars(journal.amount)}), {many(journal.open_slots, 'call')} open"
            )
    if report.ok:
        return [*lines, "reconciled"]
    for difference in report.differences:
        owner = f" of {difference.organization}" if difference.organization else ""
        lines.append(
            f"  DIFFERS {difference.check}: {difference.id}{owner}: {difference.expected}, found {difference.found}"
        )
    if report.more:
        lines.append(f"  … and {report.more:,} more")
    return [*lines, f"not reconciled: {many(len(report.differences) + report.more, 'difference')}"]


def _later(sums: Sums) -> str:
    """What was changed afterwards, where anything was."""
    corrected = f" - corrected {dollars(sums.corrected)}" if sums.corrected else ""
    return corrected + (f" + settled {dollars(sums.settled)}" if sums.settled else "")


def many(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
