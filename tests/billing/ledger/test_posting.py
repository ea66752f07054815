"""Posting is arithmetic: nothing is lost between usage, credit and what is owed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from calls import NOW, record
from museway_billing.ledger import Credit, TransferKind, post_usage
from museway_billing.ledger.posting import draw_order
from museway_billing.money import NanoUsd
from museway_billing.usage import UsageRecord

ORGANIZATIONS = st.sampled_from(["org_a", "org_b"])
AMOUNTS = st.integers(0, 1000).map(NanoUsd)


@st.composite
def batches(draw: st.DrawFn) -> list[UsageRecord]:
    made: list[UsageRecord] = []
    for number in range(draw(st.integers(0, 8))):
        amount = draw(AMOUNTS)
        made.append(
            structs.replace(
                record(number, organization=draw(ORGANIZATIONS)),
                amount_nano_usd=amount,
                credited_nano_usd=draw(st.integers(0, amount).map(NanoUsd)),
            )
        )
    return made


@st.composite
def wallets(draw: st.DrawFn) -> list[Credit]:
    return [
        Credit(
            account=f"credit:{number}",
            organization=draw(ORGANIZATIONS),
            priority=draw(st.integers(0, 1)),
            expires=draw(st.none() | st.integers(0, 3).map(lambda days: NOW + timedelta(days=days))),
            created=NOW + timedelta(seconds=draw(st.integers(0, 3))),
            left=draw(AMOUNTS),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


@given(batches(), wallets())
def test_usage_is_credit_used_plus_receivable(records: Sequence[UsageRecord], wallet: Sequence[Credit]) -> None:
    posting = post_usage(records, wallet)
    left = {credit.account: int(credit.left) for credit in wallet}
    owed = {"org_a": 0, "org_b": 0}
    for transfer in posting.transfers:
        used = transfer.kind is TransferKind.USAGE
        account, amount = (transfer.debit, transfer.amount) if used else (transfer.credit, -transfer.amount)
        if account.startswith("receivable:"):
            owed[transfer.organization] += amount
        else:
            left[account] -= amount
            assert left[account] >= 0
    assert {owner: amount for owner, amount in owed.items() if amount} == posting.receivable
    for owner in owed:
        usage = sum(r.amount_nano_usd - r.credited_nano_usd for r in records if r.organization == owner)
        spent = sum(c.left - left[c.account] for c in wallet if c.organization == owner)
        assert usage == spent + owed[owner]
        had = sum(c.left for c in wallet if c.organization == owner)
        gross = sum(r.amount_nano_usd for r in records if r.organization == owner)
        if gross <= had:
            assert owed[owner] == 0


@given(batches(), wallets())
def test_transfers_name_their_record_and_are_above_zero(
    records: Sequence[UsageRecord], wallet: Sequence[Credit]
) -> None:
    transfers = post_usage(records, wallet).transfers
    assert len({transfer.id for transfer in transfers}) == len(transfers)
    assert all(transfer.amount > 0 and transfer.debit != transfer.credit for transfer in transfers)
    for one in records:
        own = [transfer for transfer in transfers if transfer.source == one.id]
        used = sum(transfer.amount for transfer in own if transfer.kind is TransferKind.USAGE)
        back = sum(transfer.amount for transfer in own if transfer.kind is TransferKind.USAGE_CREDIT)
        assert (used, back) == (one.amount_nano_usd, one.credited_nano_usd)


@given(wallets())
def test_what_expires_first_is_drawn_first_and_promotions_before_money(wallet: Sequence[Credit]) -> None:
    ordered = draw_order(wallet)
    for one, next_ in pairwise(ordered):
        assert one.priority <= next_.priority
        if one.priority == next_.priority:
            assert one.expires is not None or next_.expires is None
            if one.expires and next_.expires:
                assert one.expires <= next_.expires
            if one.expires == next_.expires:
                assert one.created <= next_.created
