"""What `museway reconcile` finds. Amounts are nano-USD."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Check(StrEnum):
    """What was compared. Each difference names one."""

    LINES = "lines"
    """A record's lines, computed again from its counts and its price version (I5)."""
    TOKENS = "tokens"
    """A record's counts against its state (I1, I8)."""
    ONCE = "once"
    """A record that stands twice, or an engine call that has two (I1)."""
    POSTED = "posted"
    """A record's amount against the transfers made for it (I2)."""
    PERIOD = "period"
    """Usage of an organization and month against credit used and receivable (I2)."""
    EXPORTED = "exported"
    """Receivable against what the outbox tells the payment provider (I2)."""
    BALANCE = "balance"
    """An account's balance against its transfers alone; credit below zero (I3)."""
    DOOR = "door"
    """What limiters were told against the transfers that are not usage; holes in its numbering (I3)."""
    ROLLUP = "rollup"
    """Sums by hour against the records."""
    ADJUSTED = "adjusted"
    """An adjustment against its transfers, and a correction against what was charged."""
    JOURNAL = "journal"
    """A journal that cannot be read, or that PostgreSQL is ahead of."""


class Difference(Struct, frozen=True, kw_only=True):
    """One thing that is not as it must be. `id`: the record, account, journal or period that it is about."""

    check: Check
    organization: str | None
    id: str
    expected: str
    found: str


class Sums(Struct, frozen=True, kw_only=True):
    """One organization's month (UTC, by posting date). usage - credited - corrected + settled = credit_used + receivable,
    where both are net of what was given back. `credited`: at once, by policy; `corrected`: later, by hand; `settled`: for
    unknown counts that became known. receivable + adjusted = exported; `adjusted`: what else moved the receivable by hand.
    """

    organization: str
    period: str
    records: int
    usage: int
    credited: int
    credit_used: int
    receivable: int
    exported: int
    corrected: int = 0
    settled: int = 0
    adjusted: int = 0


class JournalLeft(Struct, frozen=True, kw_only=True):
    """What a journal folder on this disk still holds: not a difference, but not in the sums either."""

    id: str
    alive: bool
    records: int
    amount: int
    open_slots: int
    holds: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """`ok`: nothing differs. `differences` is cut at a bound; `more` counts what is not shown."""

    ok: bool
    records: int
    transfers: int
    sums: tuple[Sums, ...]
    differences: tuple[Difference, ...]
    more: int
    journals: tuple[JournalLeft, ...]
    unknown: int = 0
    """Records whose counts are not known: shown, not charged for what is unknown, the customer's after 24 h (I8)."""
    reserved: int = 0
    """Nano-USD that stay reserved for them now."""
