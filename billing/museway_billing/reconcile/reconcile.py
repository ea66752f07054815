"""One read-only look at everything that is stored: streaming, in constant memory, in one snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from museway_billing.prices.store import load
from museway_billing.reconcile.left import journals_left
from museway_billing.reconcile.record import check_record
from museway_billing.reconcile.report import Check, Difference, JournalLeft, Report, Sums
from museway_billing.reconcile.store import (
    Connection,
    all_records,
    count_transfers,
    differing,
    drained_sequences,
    organizations,
    period_sums,
)
from museway_billing.usage import State

PAGE_RECORDS = 1000
DIFFERENCES_MAX = 1000


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


async def reconcile(connection: Connection, *, journals: Path | None = None) -> Report:
    """Prove the books, or name what differs. `connection` must not be in a transaction; nothing is changed.

    `journals`: this disk's journal directory, whose undrained records are reported beside the sums. Records that living
    processes have not drained yet are no difference: the sums are of what is in PostgreSQL.
    """
    findings = _Findings()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        book = await load(connection)
        records = unknown = 0
        async for record in all_records(connection, PAGE_RECORDS):
            records += 1
            unknown += record.state is State.UNKNOWN
            findings.add(check_record(record, book))
        sums: list[Sums] = []
        for organization in await organizations(connection):
            sums += await period_sums(connection, organization)
            findings.add(await differing(connection, organization, DIFFERENCES_MAX))
        for period in sums:
            findings.add(_check_period(period))
        transfers = await count_transfers(connection)
        drained = await drained_sequences(connection)
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
    )


def _check_period(sums: Sums) -> Iterable[Difference]:
    expected, found = sums.usage - sums.credited, sums.credit_used + sums.receivable
    if expected != found:
        yield _difference(Check.PERIOD, sums, str(expected), str(found))
    if sums.receivable != sums.exported:
        yield _difference(Check.EXPORTED, sums, str(sums.receivable), str(sums.exported))


def _difference(check: Check, sums: Sums, expected: str, found: str) -> Difference:
    return Difference(check=check, organization=sums.organization, id=sums.period, expected=expected, found=found)
