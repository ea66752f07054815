"""The demo's last word: the books, computed again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from museway_billing.reconcile import Report
from museway_platform.cli.demo.screen import Screen
from museway_platform.cli.prompt import Failure
from museway_platform.cli.reconcile import report_on, told

_DRAIN_S = 15.0
_POLL_S = 0.2


async def prove(database_url: str, journals: Path, screen: Screen) -> None:
    """Wait until all that was answered is in the ledger, reconcile, and say the sums. Raises Failure where they differ."""
    report = await _drained(database_url, journals)
    for line in told(report):
        screen.say(line)
    if not report.ok:
        raise Failure("the books do not add up")


async def _drained(database_url: str, journals: Path) -> Report:
    """The first report with nothing left in a journal. Raises Failure after 15 s: the drain's promise is one second."""
    began = time.monotonic()
    while True:
        report = await report_on(database_url, journals)
        if not any(journal.records or journal.open_slots for journal in report.journals):
            return report
        if time.monotonic() - began > _DRAIN_S:
            raise Failure(f"the journal is not empty after {_DRAIN_S:.0f} s: {'; '.join(told(report))}")
        await asyncio.sleep(_POLL_S)
