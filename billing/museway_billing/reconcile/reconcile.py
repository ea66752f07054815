"""One read-only look at everything that is stored: streaming, in constant memory, in one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from museway_billing.prices.store import load
from museway_billing.reconcile.left import journals_left
from museway_billing.reconcile.record import check_record
from museway_billing.reconcile.report import Check, Difference, JournalLeft, Report, Sums
from museway_billing.reconcile.store import (
    Connection,
    all_records,
    count_records,
    count_transfers,
    differing,
    drained_sequences,
    organizations,
    period_sums,
    reserved,
)
from museway_billing.usage import State

PAGE_RECORDS = 1000
DIFFERENCES_MAX = 1000


Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being looked through, how many are done, and of how many."""


def silent(_what: str, _done: int, _of: int) -> None:
    """Nobody watches."""


class _Findings:
    """Differences, up to a bound: a broken ledger must not break the reconciliation too."""

    def __init__(self) -> None:
        self.shown: list[Difference] = []
        self.more = 0

    def add(self, differences: Iterable[Difference]) -> None:
        for difference in differences:
            if len(self.shown) < DIFFERENCES_MAX:
                self.shown.append(difference)
            else:
                self.more += 1


async def reconcile(connection: Connection, *, journals: Path | None = None, progress: Progress = silent) -> Report:
    """Prove the books, or name what differs. `connection` must not be in a transaction; nothing is changed.

    `journals`: this disk's journal directory. Each journal is cut where this snapshot has it drained; what stands behind
    is read from its files and reported beside the sums, so that a living process's records on the way are no difference.
    Memory does not grow with the records: they come in pages, and PostgreSQL joins and sums on its own disk.
    """
    findings = _Findings()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        drained = await drained_sequences(connection)
        book = await load(connection)
        records = unknown = 0
        expected = await count_records(connection)
        progress("records", 0, expected)
        async for page in all_records(connection, PAGE_RECORDS):
            for record in page:
                unknown += record.state is State.UNKNOWN
                findings.add(check_record(record, book))
            records += len(page)
            progress("records", records, expected)
        sums: list[Sums] = []
        owners = await organizations(connection)
        for number, organization in enumerate(owners):
            progress("organizations", number, len(owners))
            sums += await period_sums(connection, organization)
            findings.add(await differing(connection, organization, DIFFERENCES_MAX))
        progress("organizations", len(owners), len(owners))
        for period in sums:
            findings.add(_check_period(period))
        transfers = await count_transfers(connection)
        reserve = await reserved(connection)
    left: list[JournalLeft] = []
    if journals is not None:
        for found in await asyncio.to_thread(lambda: list(journals_left(journals, drained))):
            if isinstance(found, JournalLeft):
                left.append(found)
            else:
                findings.add([found])
    return Report(
        ok=not findings.shown,
        records=records,
        transfers=transfers,
        sums=tuple(sums),
        differences=tuple(findings.shown),
        more=findings.more,
        journals=tuple(left),
        unknown=unknown,
        reserved=reserve,
    )


def _check_period(sums: Sums) -> Iterable[Difference]:
    expected = sums.usage - sums.credited - sums.corrected + sums.settled
    found = sums.credit_used + sums.receivable
    if expected != found:
        yield _difference(Check.PERIOD, sums, str(expected), str(found))
    if sums.receivable + sums.adjusted != sums.exported:
        yield _difference(Check.EXPORTED, sums, str(sums.receivable + sums.adjusted), str(sums.exported))


def _difference(check: Check, sums: Sums, expected: str, found: str) -> Difference:
    return Difference(check=check, organization=sums.organization, id=sums.period, expected=expected, found=found)
