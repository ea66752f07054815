"""A limiter's refusal in one sentence: which limit of whom, what is used, what was asked, when there is room. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, assert_never

from museway_billing.money import USD
from museway_platform.limits.limiter import LimitState, Metric, Refused

_UNITS: Final[dict[Metric, str]] = {
    "requests": "requests",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "concurrent_requests": "concurrent requests",
    "spend": "spending",
    "credit": "credit",
}


def explain(refused: Refused) -> str:
    state = refused.state
    match state.kind:
        case "rate":
            return f"{_rate(state)} {refused.asked} asked. {_rate_advice(refused)}"
        case "cap":
            return (
                f"The spending cap of {_whose(state)} is reached: {usd(state.used)} used and {usd(state.held)} held of "
                f"{usd(state.limit)}; this request needs {usd(refused.asked)}. {_cap_advice(state)}"
            )
        case "credit":
            return (
                f"The credit of {_whose(state)} does not cover this request: {usd(state.left)} available "
                f"({usd(state.held)} held by running requests), {usd(refused.asked)} needed. Add credit to go on."
            )
        case _:
            assert_never(state.kind)


def _whose(state: LimitState) -> str:
    mode = f" in mode {state.mode}" if state.mode else ""
    return f"{state.scope} {state.scope_id}{mode}"


def _rate(state: LimitState) -> str:
    per = f" per {_window(state.window_s)}" if state.window_s else ""
    return (
        f"Rate limit reached: {_UNITS[state.metric]}{per} of {_whose(state)}: "
        f"{state.used + state.held} of {state.limit} used,"
    )


def _window(seconds: int) -> str:
    return {1: "second", 60: "minute", 3600: "hour", 86400: "day"}.get(seconds, f"{seconds} s")


def _rate_advice(refused: Refused) -> str:
    if refused.retry_after_s is None:
        return "The request is larger than the limit: waiting does not help."
    return f"Try again in {refused.retry_after_s:.1f} s."


def _cap_advice(state: LimitState) -> str:
    if state.resets_at is None:
        return "It does not reset by itself."
    return f"It resets at {datetime.fromtimestamp(state.resets_at, UTC):%Y-%m-%d %H:%M} UTC."


def usd(nano: int) -> str:
    """Nano-USD as dollars, exact, without trailing zeros beyond cents: `$0.000125`, `-$1.50`."""
    whole, part = divmod(abs(nano), USD)
    digits = f"{part:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole}.{digits}"
