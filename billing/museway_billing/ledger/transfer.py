"""A transfer moves one amount from one account (credit) to another (debit): a group of them always sums to zero.

Transfers are never changed. A pending one moves nothing until a second one posts or voids it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from museway_billing.money import NanoUsd


class TransferKind(StrEnum):
    USAGE = "usage"
    USAGE_CREDIT = "usage_credit"
    """Given back for a usage record by published policy: a worker or a gateway was lost."""
    GRANT = "grant"
    LAPSE = "lapse"
    ADJUSTMENT = "adjustment"
    PAYMENT = "payment"
    REFUND = "refund"
    """Given back for a usage record later, by a correction."""
    ROUNDING = "rounding"
    UNKNOWN = "unknown"
    """The reserve of a record whose count is not known (I8): pending, then void."""


class TransferPhase(StrEnum):
    POSTED = "posted"
    PENDING = "pending"
    POST = "post"
    VOID = "void"

    @property
    def ends_pending(self) -> bool:
        return self in (TransferPhase.POST, TransferPhase.VOID)

    @property
    def moves(self) -> bool:
        """Whether a transfer in this phase changes balances."""
        return self in (TransferPhase.POSTED, TransferPhase.POST)


class Transfer(Struct, frozen=True, kw_only=True):
    """`id` comes from the caller or is derived from what it is for; `source` names that. `amount` > 0."""

    id: str
    source: str
    kind: TransferKind
    organization: str
    debit: str
    credit: str
    amount: NanoUsd
    phase: TransferPhase = TransferPhase.POSTED
    pending: str | None = None


class TransferRefused(Exception):
    """The transfer cannot be recorded; nothing was. `field` says which part of it is why."""

    def __init__(self, transfer: str, field: str, why: str) -> None:
        super().__init__(f"{transfer}: {field} {why}")
        self.transfer, self.field, self.why = transfer, field, why


def refuse_difference(stored: Transfer, given: Transfer) -> None:
    """The same id with the same content is success; with other content it raises TransferRefused for the first field."""
    assert stored.id == given.id
    for field in Transfer.__struct_fields__:
        if getattr(stored, field) != getattr(given, field):
            raise TransferRefused(
                given.id, field, f"is {getattr(stored, field)} in the ledger, not {getattr(given, field)}"
            )


def check(transfer: Transfer) -> None:
    """Raises TransferRefused for a transfer that no ledger may hold."""
    if transfer.amount <= 0:
        raise TransferRefused(transfer.id, "amount", "is not above 0")
    if transfer.debit == transfer.credit:
        raise TransferRefused(transfer.id, "debit", "is the account that is credited")
    if (transfer.pending is not None) != transfer.phase.ends_pending:
        raise TransferRefused(transfer.id, "pending", f"does not go with {transfer.phase}")


def check_end(transfer: Transfer, pending: Transfer | None) -> None:
    """Raises TransferRefused where `transfer` cannot post or void `pending` (None: there is no such transfer)."""
    if pending is None or pending.phase is not TransferPhase.PENDING:
        raise TransferRefused(transfer.id, "pending", f"{transfer.pending} is no pending transfer")
    for field in ("organization", "debit", "credit"):
        if getattr(transfer, field) != getattr(pending, field):
            raise TransferRefused(transfer.id, field, f"is not that of {pending.id}")
    if transfer.amount > pending.amount:
        raise TransferRefused(transfer.id, "amount", f"is above that of {pending.id}")
