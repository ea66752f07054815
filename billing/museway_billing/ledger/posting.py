"""How usage becomes transfers. Pure: what is left of credit comes in, transfers come out.

Credit is drawn in the order (priority, expiry, age), the rest is owed. What is given back by policy goes back to where it
was taken from, last taken first. Whether a request may be served was the limiter's decision; this records, it never refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from museway_billing.ledger.account import AccountKind, Credit, account_id
from museway_billing.ledger.transfer import Transfer, TransferKind, TransferPhase
from museway_billing.money import NanoUsd
from museway_billing.usage import UsageRecord

_NEVER = datetime.max.replace(tzinfo=UTC)


class Draw(Struct, frozen=True):
    """Part of an amount, taken from (or owed on) one account."""

    account: str
    amount: NanoUsd


class Posting(Struct, frozen=True):
    """A batch as transfers, and what it adds to each organization's receivable (never below 0)."""

    transfers: tuple[Transfer, ...]
    receivable: dict[str, NanoUsd]


def draw_order(credits: Iterable[Credit]) -> list[Credit]:  # noqa: A002
    """Lowest priority number, then what expires first, then the oldest."""
    return sorted(credits, key=lambda c: (c.priority, c.expires or _NEVER, c.created, c.account))


def post_usage(records: Sequence[UsageRecord], credits: Iterable[Credit]) -> Posting:  # noqa: A002
    """The transfers of a batch of new records, in their order. `credits`: all that their organizations have left."""
    purses: dict[str, Purse] = {}
    for credit in draw_order(credits):
        purses.setdefault(credit.organization, Purse(credit.organization)).add(credit)
    transfers: list[Transfer] = []
    for record in records:
        purse = purses.setdefault(record.organization, Purse(record.organization))
        draws = purse.draw(record.amount_nano_usd)
        back = purse.give_back(draws, record.credited_nano_usd)
        transfers += _transfers(record, draws, back)
        if record.reserve_nano_usd:
            transfers.append(_reserve(record))
    owed = {organization: NanoUsd(purse.owed) for organization, purse in purses.items() if purse.owed}
    return Posting(tuple(transfers), owed)


class Purse:
    """One organization's credit while something is posted. `owed`: what it adds to the receivable."""

    def __init__(self, organization: str) -> None:
        self._receivable = account_id(AccountKind.RECEIVABLE, organization)
        self._left: dict[str, int] = {}
        self.owed = 0

    def add(self, credit: Credit) -> None:
        self._left[credit.account] = credit.left

    def draw(self, amount: NanoUsd) -> list[Draw]:
        draws: list[Draw] = []
        missing: int = amount
        for account, left in self._left.items():
            if missing == 0:
                break
            if taken := min(left, missing):
                self._left[account] -= taken
                missing -= taken
                draws.append(Draw(account, NanoUsd(taken)))
        if missing:
            self.owed += missing
            draws.append(Draw(self._receivable, NanoUsd(missing)))
        return draws

    def give_back(self, draws: Sequence[Draw], amount: NanoUsd) -> list[Draw]:
        back: list[Draw] = []
        rest: int = amount
        for draw in reversed(draws):
            if given := min(draw.amount, rest):
                rest -= given
                if draw.account == self._receivable:
                    self.owed -= given
                else:
                    self._left[draw.account] += given
                back.append(Draw(draw.account, NanoUsd(given)))
        assert rest == 0, "more is given back than was taken"
        return back


def _transfers(record: UsageRecord, draws: Sequence[Draw], back: Sequence[Draw]) -> list[Transfer]:
    revenue = account_id(AccountKind.REVENUE, record.organization)
    refund = account_id(AccountKind.REFUND, record.organization)
    moves = [(TransferKind.USAGE, draw.account, revenue, draw.amount) for draw in draws]
    moves += [(TransferKind.USAGE_CREDIT, refund, draw.account, draw.amount) for draw in back]
    return [
        Transfer(
            id=f"{record.id}:{number}",
            source=record.id,
            kind=kind,
            organization=record.organization,
            debit=debit,
            credit=credit,
            amount=amount,
        )
        for number, (kind, debit, credit, amount) in enumerate(moves)
    ]


def reserve_id(record_id: str) -> str:
    return f"{record_id}:reserve"


def _reserve(record: UsageRecord) -> Transfer:
    """It moves nothing while it is pending, and is always voided: what is charged after all is an entry of its own."""
    return Transfer(
        id=reserve_id(record.id),
        source=record.id,
        kind=TransferKind.UNKNOWN,
        organization=record.organization,
        debit=account_id(AccountKind.RECEIVABLE, record.organization),
        credit=account_id(AccountKind.UNKNOWN, record.organization),
        amount=record.reserve_nano_usd,
        phase=TransferPhase.PENDING,
    )
