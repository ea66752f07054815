"""Accounts: what they are called and what a credit grant has left. Meanings: README.md beside this file."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from museway_billing.money import NanoUsd


class AccountKind(StrEnum):
    CREDIT = "credit"
    RECEIVABLE = "receivable"
    REVENUE = "revenue"
    PROMOTION = "promotion"
    REFUND = "refund"
    UNKNOWN = "unknown"
    ROUNDING = "rounding"
    CLEARING = "clearing"


class GrantKind(StrEnum):
    """Where granted money comes from; promotional credit is drawn first."""

    PROMOTIONAL = "promotional"
    PAID = "paid"

    @property
    def priority(self) -> int:
        """Lower is drawn first."""
        return 0 if self is GrantKind.PROMOTIONAL else 1

    @property
    def source(self) -> AccountKind:
        """The account that pays for the grant."""
        return AccountKind.PROMOTION if self is GrantKind.PROMOTIONAL else AccountKind.CLEARING


def account_id(kind: AccountKind, organization: str) -> str:
    """The organization's one account of this kind; credit has one per grant (`credit_id`)."""
    assert kind is not AccountKind.CREDIT
    return f"{kind}:{organization}"


def is_spendable(account: str) -> bool:
    """Whether what an account holds is part of what its organization may spend: its credit, and what it owes."""
    return account.startswith((f"{AccountKind.CREDIT}:", f"{AccountKind.RECEIVABLE}:"))


def credit_id(organization: str, txn_id: str) -> str:
    """The account of one grant, named after the transfer that made it."""
    return f"{AccountKind.CREDIT}:{organization}:{txn_id}"


class Credit(Struct, frozen=True, kw_only=True):
    """What is left of one grant. `expires` None: never."""

    account: str
    organization: str
    priority: int
    expires: datetime | None
    created: datetime
    left: NanoUsd


class Balance(Struct, frozen=True, kw_only=True):
    """An organization's money as the ledger has it. `sequence`: the last that came in by the one door, 0 for none."""

    organization: str
    credit: NanoUsd
    receivable: NanoUsd
    sequence: int
    reserved: NanoUsd = NanoUsd(0)

    @property
    def posted(self) -> NanoUsd:
        """Credit less what is owed and what is reserved for unknown counts: where a limiter starts from."""
        return NanoUsd(self.credit - self.receivable - self.reserved)
