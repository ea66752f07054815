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


def roll_up(records: Iterable[UsageRecord], new_requests: Iterable[str]) -> list[tuple[RollupKey, Rollup]]:
    """What a batch adds, in key order. A request is counted once, at its first record."""
    uncounted = set(new_requests)
    sums: dict[tuple[str | int, ...], list[int]] = {}
    for record in records:
        hour = record.created - record.created % _HOUR
        place = (record.organization, hour, record.project, record.key, record.mode, record.model)
        for line in record.lines:
            part = sums.setdefault((*place, line.token_class), [0, 0, 0, 0])
            part[0] += line.tokens
            part[1] += line.amount_nano_usd
        first = record.request_id in uncounted
        if first or record.credited_nano_usd:
            part = sums.setdefault((*place, REQUEST_CLASS), [0, 0, 0, 0])
            part[2] += record.credited_nano_usd
            part[3] += first
            uncounted.discard(record.request_id)
    return sorted((RollupKey._make(key), Rollup._make(part)) for key, part in sums.items())
