"""Adjustments as transfers. Pure: what was taken, and what is left, comes in; transfers come out.

| what | from | to | also |
|---|---|---|---|
| adjustment above 0 | promotion | a credit grant of its own | – |
| adjustment below 0 | credit in draw order, then receivable | promotion | outbox, for the receivable |
| correction of a record or request | refund | where it was taken from, last taken first | outbox, for the receivable |
| an unknown count became known | credit in draw order, then receivable | revenue | its reserve ends; outbox |

A grant that has expired since is not credited again: what goes back to it becomes a grant of its own, without expiry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from museway_billing.ledger.account import AccountKind, Credit, account_id, credit_id
from museway_billing.ledger.posting import Purse, draw_order
from museway_billing.ledger.transfer import Transfer, TransferKind, TransferRefused
from museway_billing.money import NanoUsd


class Adjustment(Struct, frozen=True, kw_only=True):
    """Why money was moved by hand. `amount` above 0 is to the customer. `subject`: the record or request corrected."""

    id: str
    organization: str
    amount: NanoUsd
    subject: str | None
    reason: str


class Taken(Struct, frozen=True, kw_only=True):
    """What is still taken for a record from one account: its usage less all that was given back."""

    record: str
    account: str
    amount: int
    expires: datetime | None


def give_back(adjustment: Adjustment, taken: Sequence[Taken], *, now: datetime) -> list[Transfer]:
    """The transfers of a correction; `taken` in the order in which it was taken.

    Raises TransferRefused where more would be given back than was taken.
    """
    rest: int = adjustment.amount
    transfers: list[Transfer] = []
    for one in reversed(taken):
        given = min(one.amount, rest)
        if given == 0:
            continue
        rest -= given
        number = len(transfers)
        expired = one.expires is not None and one.expires < now
        transfers.append(
            Transfer(
                id=f"{adjustment.id}:{number}",
                source=one.record,
                kind=TransferKind.REFUND,
                organization=adjustment.organization,
                debit=account_id(AccountKind.REFUND, adjustment.organization),
                credit=credit_id(adjustment.organization, f"{adjustment.id}:{number}") if expired else one.account,
                amount=NanoUsd(given),
            )
        )
    if rest:
        raise TransferRefused(adjustment.id, "amount", f"is {rest} nano-USD above what is still charged")
    return transfers


def take(
    adjustment: Adjustment,
    credits: Iterable[Credit],  # noqa: A002
    to: AccountKind,
    *,
    source: str,
) -> tuple[list[Transfer], NanoUsd]:
    """The transfers that take `-adjustment.amount` from the customer, and what of it is owed."""
    purse = Purse(adjustment.organization)
    for credit in draw_order(credits):
        purse.add(credit)
    transfers = [
        Transfer(
            id=f"{adjustment.id}:{number}",
            source=source,
            kind=TransferKind.ADJUSTMENT,
            organization=adjustment.organization,
            debit=draw.account,
            credit=account_id(to, adjustment.organization),
            amount=draw.amount,
        )
        for number, draw in enumerate(purse.draw(NanoUsd(-adjustment.amount)))
    ]
    return transfers, NanoUsd(purse.owed)
