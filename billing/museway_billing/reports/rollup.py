"""Sums of usage by hour: what the drain adds for a batch of records. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from museway_billing.usage import UsageRecord

REQUEST_CLASS = "request"
"""Stands beside the token classes: counts requests, and what was given back, which no token class owns."""

_HOUR = 3_600_000_000


class RollupKey(NamedTuple):
    """`hour`: microseconds since the epoch, UTC. In the order in which rows are written, so that writers never deadlock."""

    organization: str
    hour: int
    project: str
    key: str
    mode: str
    model: str
    token_class: str


class Rollup(NamedTuple):
    tokens: int = 0
    amount: int = 0
    credited: int = 0
    requests: int = 0

    def plus(self, other: Rollup) -> Rollup:
        return Rollup(*(a + b for a, b in zip(self, other, strict=True)))


def roll_up(records: Iterable[UsageRecord], new_requests: Iterable[str]) -> list[tuple[RollupKey, Rollup]]:
    """What a batch adds, in key order. A request is counted once, at its first record."""
    uncounted = set(new_requests)
    sums: dict[RollupKey, Rollup] = {}

    def add(record: UsageRecord, token_class: str, part: Rollup) -> None:
        hour = record.created - record.created % _HOUR
        key = RollupKey(record.organization, hour, record.project, record.key, record.mode, record.model, token_class)
        sums[key] = sums.get(key, Rollup()).plus(part)

    for record in records:
        for line in record.lines:
            add(record, line.token_class, Rollup(tokens=line.tokens, amount=line.amount_nano_usd))
        first = record.request_id in uncounted
        uncounted.discard(record.request_id)
        if first or record.credited_nano_usd:
            add(record, REQUEST_CLASS, Rollup(credited=record.credited_nano_usd, requests=int(first)))
    return sorted(sums.items())
