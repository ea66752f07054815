"""The receipt of a request: every charge as tokens x price, so that anybody can compute the total again. Pure.

A record that was given back in full by policy charges nothing and has no line. Where records come in after a receipt was
signed (a process that was recovered, an unknown count that became known), a new one supersedes it, naming its signature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from museway_billing.timestamp import rfc3339
from museway_billing.usage import UsageRecord


class ReceiptLine(Struct, frozen=True, kw_only=True):
    """amount = tokens x price // 1,000,000: rounded down, once, here."""

    rid: str
    phase: str
    agent: int
    token_class: str = msgspec.field(name="class")
    tokens: int
    price_nano_usd_per_mtok: int
    amount_nano_usd: int


class Receipt(Struct, frozen=True, kw_only=True):
    """Version 1, what is signed. `created`: RFC 3339, UTC, when the request's first call began. The total is the sum of
    the lines. `supersedes`: the signature of the receipt of this request that it replaces."""

    v: Literal[1] = 1
    request_id: str
    organization: str
    project: str
    key: str
    mode: str
    created: str
    lines: tuple[ReceiptLine, ...]
    price_version: int
    total_nano_usd: int
    supersedes: str | None = None


def make_receipt(records: Sequence[UsageRecord], *, supersedes: str | None) -> Receipt:
    """The receipt of all records of one request, of which there is at least one; their order does not matter."""
    ordered = sorted(records, key=lambda record: (record.created, record.id))
    first = ordered[0]
    assert all(record.request_id == first.request_id for record in ordered)
    lines = tuple(line for record in ordered for line in _lines(record))
    return Receipt(
        request_id=first.request_id,
        organization=first.organization,
        project=first.project,
        key=first.key,
        mode=first.mode,
        created=rfc3339(first.created),
        lines=lines,
        price_version=first.price_version,
        total_nano_usd=sum(line.amount_nano_usd for line in lines),
        supersedes=supersedes,
    )


def _lines(record: UsageRecord) -> list[ReceiptLine]:
    if record.credited_nano_usd:
        assert record.credited_nano_usd == record.amount_nano_usd, "policy gives back a record whole"
        return []
    return [
        ReceiptLine(
            rid=record.rid,
            phase=record.phase,
            agent=record.agent,
            token_class=line.token_class.value,
            tokens=line.tokens,
            price_nano_usd_per_mtok=line.price_nano_usd_per_mtok,
            amount_nano_usd=line.amount_nano_usd,
        )
        for line in record.lines
    ]
