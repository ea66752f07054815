"""Which limit to name in a refusal, and when to come back. Off the path of what is admitted."""

from __future__ import annotations

from collections.abc import Sequence

from museway_platform.limits.bucket import Bucket
from museway_platform.limits.limiter import Refused
from museway_platform.limits.rules import Gate
from museway_platform.limits.spending import Account, Window
from museway_platform.limits.states import cap_state, credit_state, gate_state, rate_state

GATE_WAIT_S = 1.0
"""Nobody knows when a request under way ends: a client that comes back after a second finds out."""
_SECOND_NS = 1_000_000_000
_NEVER = float("inf")


def of_credit(account: Account, organization: str, amount: int) -> Refused:
    """Waiting brings no credit."""
    return Refused(state=credit_state(account, organization), asked=amount, retry_after_s=None)


def of_caps(windows: Sequence[Window], amount: int, wall_ns: int) -> Refused:
    """The cap that refuses longest: until its period ends, for ever where it has no end or could never cover `amount`."""

    def wait_s(window: Window) -> float:
        if amount > window.cap.amount_nano_usd or window.endless:
            return _NEVER
        return max(0, window.end - wall_ns) / _SECOND_NS

    refusing = [window for window in windows if window.left < amount]
    window = max(refusing, key=wait_s)
    return Refused(state=cap_state(window), asked=amount, retry_after_s=_finite(wait_s(window)))


def of_rates(
    buckets: Sequence[Bucket], gates: Sequence[Gate], asked: tuple[int, int, int], now: int, wall_ns: int
) -> Refused:
    """The rate limit that refuses longest, so that whoever waits as told meets no other one."""
    refused: Refused | None = None
    longest = -1.0
    for bucket in buckets:
        tokens = asked[bucket.kind]
        if bucket.level_at(now) >= tokens * bucket.unit:
            continue
        wait_s = bucket.wait_s(tokens)
        if (_NEVER if wait_s is None else wait_s) > longest:
            longest = _NEVER if wait_s is None else wait_s
            refused = Refused(state=rate_state(bucket, wall_ns), asked=tokens, retry_after_s=wait_s)
    for gate in gates:
        if gate.used >= gate.limit.capacity and longest < GATE_WAIT_S:
            longest = GATE_WAIT_S
            refused = Refused(state=gate_state(gate), asked=1, retry_after_s=GATE_WAIT_S)
    assert refused is not None, "called where a rate limit has no room"
    return refused


def _finite(wait_s: float) -> float | None:
    return None if wait_s == _NEVER else wait_s
