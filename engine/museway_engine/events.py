"""What a mode says while it answers: one closed, tagged union. Match it with `match` and `assert_never`.

A mode yields *batches* (lists) of events: all that came from the workers in one read, so that a saturated stream costs one
wake-up for many tokens. Text is carried as `json`: the JSON string literal, quotes included, exactly as the worker
escaped it, so that an encoder can splice it without decoding; `text()` decodes.

`n` on `Reasoning`, `Output` and `ToolCall` is the worker's own cumulative count of tokens of that call (`rid`) up to and
including this event: metering bills by it *before* the bytes leave. UNKNOWN where the worker gave no count.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from museway_engine.completion import Mode
from museway_engine.rid import Phase

UNKNOWN: Final = -1
"""A count that nobody knows. Unknown is not zero (invariant I8)."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
AgentState = Literal["started", "thinking", "done", "stopped", "failed"]
StopReason = Literal["complete", "budget", "eos", "agreement", "deadline", "degraded", "length", "tool_call"]


class _Event(Struct, frozen=True, gc=False, tag_field="type", tag=str.lower):
    pass


class Reasoning(_Event, frozen=True):
    """Tokens of the visible chain (Thinking)."""

    rid: str
    choice: int
    json: bytes
    n: int


class Output(_Event, frozen=True):
    """Tokens of the answer. `logprobs` is the worker's object for this chunk, as JSON, where the caller asked for it."""

    rid: str
    choice: int
    json: bytes
    n: int
    logprobs: Raw | None = None


class ToolCall(_Event, frozen=True):
    """A piece of a tool call: the first of an index has `id` and `name`, the rest append to `arguments` (a JSON literal)."""

    rid: str
    choice: int
    index: int
    id: str | None
    name: str | None
    arguments: bytes
    n: int


class Agent(_Event, frozen=True):
    """Progress of one agent: counts, never hidden text. `agree` is how many finished agents share the leading answer."""

    index: int
    phase: Phase
    state: AgentState
    tokens: int
    agree: int = 0
    finished: int = 0


class PhaseStarted(_Event, frozen=True):
    """A phase of a mode begins; `drafts` is how many drafts it works from."""

    phase: Phase
    round: int = 0
    drafts: int = 0


class Chosen(_Event, frozen=True):
    """What `auto` chose, and by which rule."""

    mode: Mode
    rule: str


class Finish(_Event, frozen=True):
    """One choice is complete."""

    choice: int
    reason: FinishReason


class Done(_Event, frozen=True):
    """The last event of every run that was not broken off. `budget`/`used` are None where the mode has no chain."""

    stop_reason: StopReason
    budget: int | None = None
    used: int | None = None
    rounds: int = 0
    disagrees: bool = False


AnyEvent = Reasoning | Output | ToolCall | Agent | PhaseStarted | Chosen | Finish | Done

_text = msgspec.json.Decoder(str)


def text(literal: bytes) -> str:
    """The text of an event's JSON literal."""
    return _text.decode(literal)
