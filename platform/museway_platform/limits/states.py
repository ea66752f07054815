"""Counters as `GET /v1/limits`, the headers and refusals show them. Not on the path of a request that is admitted, but for
`rate_state`."""

from __future__ import annotations

from collections.abc import Iterable

from museway_platform.limits.bucket import METRICS, Bucket
from museway_platform.limits.limiter import HOLDERS_SHOWN, Holder, LimitState
from museway_platform.limits.rules import Gate
from museway_platform.limits.spending import Account, Window

_SECOND_NS = 1_000_000_000


def rate_state(bucket: Bucket, wall_ns: int) -> LimitState:
    """As of the bucket's last `level_at`. `resets_at` is when it is full again; None where nothing refills it."""
    limit = bucket.limit
    left = bucket.level // bucket.unit
    if left < 0:
        left = 0
    full_s = bucket.full_after_s()
    return LimitState(
        scope=bucket.scope,
        scope_id=bucket.scope_id,
        metric=METRICS[bucket.kind],
        mode=limit.mode,
        kind="rate",
        limit=limit.capacity,
        used=limit.capacity - left,
        held=0,
        left=left,
        resets_at=None if full_s is None else wall_ns / _SECOND_NS + full_s,
        window_s=limit.window_s,
    )


def gate_state(gate: Gate) -> LimitState:
    return LimitState(
        scope=gate.scope,
        scope_id=gate.scope_id,
        metric="concurrent_requests",
        mode=gate.limit.mode,
        kind="rate",
        limit=gate.limit.capacity,
        used=gate.used,
        held=0,
        left=max(0, gate.limit.capacity - gate.used),
        resets_at=None,
    )


def cap_state(window: Window) -> LimitState:
    return LimitState(
        scope=window.scope,
        scope_id=window.scope_id,
        metric="spend",
        mode=None,
        kind="cap",
        limit=window.cap.amount_nano_usd,
        used=window.used,
        held=window.held,
        left=max(0, window.left),
        resets_at=None if window.endless else window.end / _SECOND_NS,
        window_s=None if window.endless else (window.end - window.start) // _SECOND_NS,
    )


def credit_state(account: Account, organization: str) -> LimitState:
    """`limit` is what was paid or granted and not drained yet, with the allowance; `used` is on its way to the ledger."""
    return LimitState(
        scope="organization",
        scope_id=organization,
        metric="credit",
        mode=None,
        kind="credit",
        limit=account.posted + account.allowance,
        used=account.undrained,
        held=account.held,
        left=max(0, account.left),
        resets_at=None,
    )


def heaviest(holds: Iterable[tuple[str, int, int]]) -> list[Holder]:
    """Of open holds (key, nano-USD, output tokens): the keys that hold most."""
    sums: dict[str, tuple[int, int, int]] = {}
    for key, amount, tokens in holds:
        requests, amounts, outputs = sums.get(key, (0, 0, 0))
        sums[key] = (requests + 1, amounts + amount, outputs + tokens)
    ordered = sorted(sums.items(), key=lambda item: (-item[1][1], -item[1][2], item[0]))
    return [
        Holder(key=key, requests=requests, amount_nano_usd=amount, output_tokens=tokens)
        for key, (requests, amount, tokens) in ordered[:HOLDERS_SHOWN]
    ]
