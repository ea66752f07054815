"""What an answer is: its text, what it used, what it cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Self

import msgspec
from msgspec import Struct

from museway import types


class Cost(Struct, frozen=True, order=True):
    """An exact amount. It is never a float."""

    nano_usd: int

    @property
    def usd(self) -> Decimal:
        return Decimal(self.nano_usd).scaleb(-9)

    def __str__(self) -> str:
        """Dollars with cents, and as many digits more as the amount has."""
        whole, part = divmod(abs(self.nano_usd), 1_000_000_000)
        digits = f"{part:09}".rstrip("0").ljust(2, "0")
        return f"{'-' if self.nano_usd < 0 else ''}${whole}.{digits}"

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nano_usd + other.nano_usd)


class ToolCall(Struct, frozen=True):
    """A call that the model asks for. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """The arguments as an object. Raises msgspec.DecodeError where the model wrote none."""
        return msgspec.json.decode(self.arguments, type=dict[str, Any])


class Window(Struct, frozen=True):
    """One rate limit after the request: `remaining` of `limit`, whole again in `reset_s` seconds."""

    limit: int
    remaining: int
    reset_s: int


class RateLimit(Struct, frozen=True):
    """The tightest limits of the key. None where there is none."""

    requests: Window | None
    tokens: Window | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self | None:
        found = cls(_window(headers, "requests"), _window(headers, "tokens"))
        return None if found.requests is None and found.tokens is None else found


def _window(headers: Mapping[str, str], name: str) -> Window | None:
    try:
        return Window(
            int(headers[f"x-ratelimit-limit-{name}"]),
            int(headers[f"x-ratelimit-remaining-{name}"]),
            _duration_s(headers[f"x-ratelimit-reset-{name}"]),
        )
    except (KeyError, ValueError):
        return None


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(\.\d+)?s)?")


def _duration_s(text: str) -> int:
    """`1h2m3s` in seconds, rounded up. Raises ValueError for other forms."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(text)
    hours, minutes, seconds, fraction = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + (fraction != "0")


class Reply(Struct, frozen=True, kw_only=True):
    """One answer.

    `reasoning` is the visible chain of mode thinking. `usage` and `cost` are None where they are not known: a stream that
    was cut, or a count that is being reconciled. `agents` has a row for each agent and phase of mode contemplating.
    `museway` is all that the server said beside OpenAI's fields.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: types.Usage | None = None
    cost: Cost | None = None
    mode: str | None = None
    agents: tuple[types.AgentUse, ...] = ()
    request_id: str | None = None
    rate_limit: RateLimit | None = None
    museway: types.Museway | None = None


def reply_of(completion: types.ChatCompletion, headers: Mapping[str, str]) -> Reply:
    """The first choice of a JSON answer."""
    choice = completion.choices[0]
    message = choice.message
    calls = message.tool_calls or []
    return Reply(
        text=message.content or "",
        reasoning=message.reasoning_content or "",
        tool_calls=tuple(ToolCall(call.id, call.function.name, call.function.arguments) for call in calls),
        finish_reason=choice.finish_reason,
        usage=completion.usage,
        cost=Cost(completion.museway.cost_nano_usd),
        mode=completion.museway.mode,
        agents=tuple(completion.museway.agents or ()),
        request_id=completion.museway.request_id,
        rate_limit=RateLimit.of(headers),
        museway=completion.museway,
    )
