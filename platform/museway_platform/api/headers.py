"""What every answer says of the caller's limits, in the dialects that clients read.

`x-ratelimit-*` as OpenAI sends them (durations as `6m0s`), and the IETF draft's `RateLimit` and `RateLimit-Policy`.
"tokens" is the tighter of input and output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from museway_platform.limits.limiter import Admitted, LimitState, Metric

Headers = list[tuple[bytes, bytes]]


def limit_headers(admitted: Admitted) -> Headers:
    """Headers of one admission; empty where the caller has no rate limits."""
    return _headers(admitted.requests, _tighter(admitted.input_tokens, admitted.output_tokens))


def refusal_headers(states: Sequence[LimitState], mode: str) -> dict[str, str]:
    """The same for a request that was refused, of `states`: all limits of its caller."""
    tightest: dict[Metric, LimitState] = {}
    for state in states:
        if state.kind == "rate" and state.mode in (None, mode):
            tightest[state.metric] = _tighter(tightest.get(state.metric), state) or state
    tokens = _tighter(tightest.get("input_tokens"), tightest.get("output_tokens"))
    return {name.decode(): value.decode() for name, value in _headers(tightest.get("requests"), tokens)}


def _headers(requests: LimitState | None, tokens: LimitState | None) -> Headers:
    if requests is None and tokens is None:
        return []
    now = time.time()
    headers: Headers = []
    policies: list[str] = []
    left: list[str] = []
    for name, state in (("requests", requests), ("tokens", tokens)):
        if state is None:
            continue
        headers.extend(_openai(name, state, now))
        policies.append(f'"{name}";q={state.limit};w={state.window_s or 60}')
        left.append(f'"{name}";r={max(0, state.left)};t={_seconds(state, now)}')
    headers.append((b"ratelimit-policy", ", ".join(policies).encode()))
    headers.append((b"ratelimit", ", ".join(left).encode()))
    return headers


def _tighter(one: LimitState | None, other: LimitState | None) -> LimitState | None:
    if one is None or other is None:
        return one or other
    return one if one.left * other.limit <= other.left * one.limit else other


def _openai(name: str, state: LimitState, now: float) -> Iterator[tuple[bytes, bytes]]:
    yield f"x-ratelimit-limit-{name}".encode(), str(state.limit).encode()
    yield f"x-ratelimit-remaining-{name}".encode(), str(max(0, state.left)).encode()
    yield f"x-ratelimit-reset-{name}".encode(), duration(_seconds(state, now)).encode()


def _seconds(state: LimitState, now: float) -> int:
    return 0 if state.resets_at is None else max(0, int(state.resets_at - now + 0.999))


def duration(seconds: int) -> str:
    """Seconds as Go writes a duration: `59s`, `6m0s`, `1h0m0s`."""
    minutes, s = divmod(seconds, 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours}h{m}m{s}s"
    return f"{m}m{s}s" if m else f"{s}s"
