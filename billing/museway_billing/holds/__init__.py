"""The hold: money reserved for one request, and the one way it can end."""

from museway_billing.holds.hold import (
    Command,
    Extend,
    Hold,
    HoldState,
    Recover,
    Refusal,
    RefusalReason,
    Release,
    Settle,
    transition,
)

__all__ = [
    "Command",
    "Extend",
    "Hold",
    "HoldState",
    "Recover",
    "Refusal",
    "RefusalReason",
    "Release",
    "Settle",
    "transition",
]
