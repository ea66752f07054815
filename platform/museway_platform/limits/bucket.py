"""A token bucket in whole numbers: it neither drifts nor rounds in anybody's favour."""

from __future__ import annotations

from museway_platform.limits.limiter import Metric, Scope
from museway_platform.limits.policy import RateLimit

_SECOND_NS = 1_000_000_000
METRICS: tuple[Metric, ...] = ("requests", "input_tokens", "output_tokens")
"""By `Bucket.kind`."""


class Bucket:
    """The level is kept in tokens x nanoseconds of the window: one token is `unit` = window in ns, and each nanosecond
    brings back exactly `refill` of that. Times are monotonic nanoseconds and never go back.

    The level may fall below zero where a request used more than it asked for; it is paid back before anything is granted.
    """

    __slots__ = ("at", "full", "kind", "level", "limit", "refill", "scope", "scope_id", "unit")

    def __init__(self, limit: RateLimit, scope: Scope, scope_id: str, now: int) -> None:
        self.scope: Scope = scope
        self.scope_id = scope_id
        self.kind = METRICS.index(limit.metric)
        self.at = now
        self._shape(limit)
        self.level = self.full

    def reshape(self, limit: RateLimit, now: int) -> None:
        """Another capacity or refill from now on. What is missing stays missing: a change is no refill."""
        missing = self.full - self.level_at(now)
        tokens = -(-missing // self.unit)
        self._shape(limit)
        self.level = self.full - tokens * self.unit

    def level_at(self, now: int) -> int:
        """Bring the level up to `now`."""
        level = self.level + (now - self.at) * self.refill
        if level > self.full:
            level = self.full
        self.level, self.at = level, now
        return level

    def give_back(self, tokens: int, now: int) -> None:
        """Return what was taken and not used (never above the capacity), or take what was used beyond."""
        level = self.level_at(now) + tokens * self.unit
        self.level = level if level < self.full else self.full

    def wait_s(self, tokens: int) -> float | None:
        """After how long `tokens` are there if nobody else asks, at the time of the last `level_at`. None: never."""
        if tokens * self.unit > self.full or self.refill == 0:
            return None
        return -(-(tokens * self.unit - self.level) // self.refill) / _SECOND_NS

    def full_after_s(self) -> float | None:
        """After how long the bucket is full, at the time of the last `level_at`. None: never."""
        missing = self.full - self.level
        if missing == 0:
            return 0.0
        return -(-missing // self.refill) / _SECOND_NS if self.refill else None

    def _shape(self, limit: RateLimit) -> None:
        self.limit = limit
        self.unit = limit.window_s * _SECOND_NS
        self.full = limit.capacity * self.unit
        self.refill = limit.refill
