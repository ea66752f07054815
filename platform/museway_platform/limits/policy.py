"""Limits as data: what an organization, a project or a key may use. No counters live here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from museway_platform.limits.limiter import Scope

RateMetric = Literal["requests", "input_tokens", "output_tokens", "concurrent_requests"]
Period = Literal["day", "week", "month", "total"]


class RateLimit(Struct, frozen=True, kw_only=True):
    """A bucket of `capacity` that gets `refill` back per `window_s` seconds, evenly: a window of t seconds grants at most
    capacity + refill * t / window_s. For `concurrent_requests` capacity is how many at once, and nothing refills.
    `mode` None: all modes together."""

    metric: RateMetric
    capacity: int
    refill: int = 0
    window_s: int = 60
    mode: str | None = None


class Cap(Struct, frozen=True, kw_only=True):
    """What may be spent in one period (UTC, weeks from Monday; `total` for ever), by admission time, in nano-USD."""

    period: Period
    amount_nano_usd: int


class Policy(Struct, frozen=True, kw_only=True):
    """All limits of one scope. Nothing here means not limited here: other scopes and the credit still apply."""

    scope: Scope
    scope_id: str
    rates: tuple[RateLimit, ...] = ()
    caps: tuple[Cap, ...] = ()


class PlanLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`platform.plan.limits`: the rate limits that every organization of the plan has."""

    rates: tuple[RateLimit, ...] = ()


def overridden(plan: PlanLimits, own: Iterable[RateLimit]) -> tuple[RateLimit, ...]:
    """The plan's limits with the organization's own in place of those of the same metric and mode."""
    limits = {(limit.metric, limit.mode): limit for limit in plan.rates}
    limits.update({(limit.metric, limit.mode): limit for limit in own})
    return tuple(limits.values())
