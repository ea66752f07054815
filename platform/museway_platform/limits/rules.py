"""The counters of one scope's policy, and the ones that one kind of request meets: its track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from museway_platform.limits.bucket import Bucket
from museway_platform.limits.limiter import Scope
from museway_platform.limits.policy import Policy, RateLimit
from museway_platform.limits.spending import Account, CapCounter


class Gate:
    """How many requests may be under way at once."""

    __slots__ = ("limit", "scope", "scope_id", "used")

    def __init__(self, limit: RateLimit, scope: Scope, scope_id: str) -> None:
        self.limit = limit
        self.scope: Scope = scope
        self.scope_id = scope_id
        self.used = 0


class Rules:
    """Counters outlive changes of their limits: what was used stays used."""

    __slots__ = ("buckets", "caps", "gates", "scope", "scope_id")

    def __init__(self, scope: Scope, scope_id: str) -> None:
        self.scope: Scope = scope
        self.scope_id = scope_id
        self.buckets: dict[tuple[str, str | None], Bucket] = {}
        self.gates: dict[str | None, Gate] = {}
        self.caps: dict[str, CapCounter] = {}

    def adopt(self, policy: Policy, now: int, wall_ns: int) -> list[CapCounter]:
        """Take over `policy`; the caps that are new and know nothing of what was spent."""
        buckets, self.buckets = self.buckets, {}
        gates, self.gates = self.gates, {}
        for limit in policy.rates:
            if limit.metric == "concurrent_requests":
                gate = gates.get(limit.mode) or Gate(limit, self.scope, self.scope_id)
                gate.limit = limit
                self.gates[limit.mode] = gate
                continue
            bucket = buckets.get((limit.metric, limit.mode))
            if bucket is None:
                bucket = Bucket(limit, self.scope, self.scope_id, now)
            elif bucket.limit != limit:
                bucket.reshape(limit, now)
            self.buckets[limit.metric, limit.mode] = bucket
        return self._adopt_caps(policy, wall_ns)

    def _adopt_caps(self, policy: Policy, wall_ns: int) -> list[CapCounter]:
        counters, self.caps = self.caps, {}
        new: list[CapCounter] = []
        for cap in policy.caps:
            counter = counters.get(cap.period)
            if counter is None:
                counter = CapCounter(cap, self.scope, self.scope_id, wall_ns)
                new.append(counter)
            counter.change(cap)
            self.caps[cap.period] = counter
        return new


class Track:
    """Everything that one key meets in one mode, laid out for the hot path. Made again when a policy changes; a hold
    keeps the track under which it was admitted, and gives back to that one."""

    __slots__ = ("account", "buckets", "caps", "gates", "outputs")

    def __init__(self, account: Account, rules: Sequence[Rules], mode: str) -> None:
        self.account = account
        self.buckets = tuple(self._of_mode(rules, mode))
        self.outputs = tuple(bucket for bucket in self.buckets if bucket.kind == 2)
        self.gates = tuple(gate for rule in rules for of, gate in rule.gates.items() if of is None or of == mode)
        self.caps = tuple(counter for rule in rules for counter in rule.caps.values())

    @staticmethod
    def _of_mode(rules: Sequence[Rules], mode: str) -> Iterator[Bucket]:
        for rule in rules:
            for (_, of), bucket in rule.buckets.items():
                if of is None or of == mode:
                    yield bucket
