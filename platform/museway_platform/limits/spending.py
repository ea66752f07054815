"""Money that may be spent: caps by period, and an organization's credit. Nano-USD; times in ns since the epoch, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from museway_platform.limits.limiter import Scope
from museway_platform.limits.policy import Cap, Period

_SECOND_NS = 1_000_000_000
_NEVER = 1 << 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bounds(period: Period, at: int) -> tuple[int, int]:
    """Start and end of the period that contains `at`; the end is not part of it."""
    if period == "total":
        return 0, _NEVER
    day = _EPOCH + timedelta(days=at // (86_400 * _SECOND_NS))
    match period:
        case "day":
            start, end = day, day + timedelta(days=1)
        case "week":
            start = day - timedelta(days=day.weekday())
            end = start + timedelta(days=7)
        case "month":
            start = day.replace(day=1)
            end = (start + timedelta(days=31)).replace(day=1)
    return _ns(start), _ns(end)


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH).days * 86_400 * _SECOND_NS


class Window:
    """One cap in one period. A hold counts in the window in which it was admitted, however late it ends."""

    __slots__ = ("cap", "end", "held", "scope", "scope_id", "start", "used")

    def __init__(self, cap: Cap, scope: Scope, scope_id: str, at: int) -> None:
        self.cap = cap
        self.scope: Scope = scope
        self.scope_id = scope_id
        self.start, self.end = bounds(cap.period, at)
        self.used = 0
        self.held = 0

    @property
    def endless(self) -> bool:
        return self.end == _NEVER

    @property
    def left(self) -> int:
        return self.cap.amount_nano_usd - self.used - self.held


class CapCounter:
    """One cap over time."""

    __slots__ = ("window",)

    def __init__(self, cap: Cap, scope: Scope, scope_id: str, at: int) -> None:
        self.window = Window(cap, scope, scope_id, at)

    def at(self, wall_ns: int) -> Window:
        """The window of now. A wall clock that is set back does not bring an old window back."""
        window = self.window
        if wall_ns >= window.end:
            self.window = window = Window(window.cap, window.scope, window.scope_id, wall_ns)
        return window

    def change(self, cap: Cap) -> None:
        """Another amount for the same period, from now on, for holds that are open as well."""
        self.window.cap = cap


class Account:
    """An organization's credit as this process sees it: `posted` is the ledger's, `undrained` is on its way there."""

    __slots__ = ("_ahead", "allowance", "drained", "held", "posted", "sequence", "undrained")

    def __init__(self, *, posted: int = 0, sequence: int = 0) -> None:
        self.allowance = 0
        self.posted = posted
        self.undrained = 0
        self.drained = 0
        self.held = 0
        self.sequence = sequence
        self._ahead: set[int] = set()

    def drain(self, amount: int) -> None:
        """Usage that is in the ledger now: the sum stays, its place changes."""
        self.undrained -= amount
        self.posted -= amount
        self.drained += amount

    def post(self, sequence: int, delta: int) -> bool:
        """Money that came in (or went), once per sequence, in any order."""
        if sequence <= self.sequence or sequence in self._ahead:
            return False
        self._ahead.add(sequence)
        while self.sequence + 1 in self._ahead:
            self.sequence += 1
            self._ahead.remove(self.sequence)
        self.posted += delta
        return True

    @property
    def available(self) -> int:
        return self.posted - self.undrained - self.held

    @property
    def left(self) -> int:
        """What a hold may still take: the allowance lets the balance fall below zero."""
        return self.available + self.allowance
