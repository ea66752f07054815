"""What a worker said of one call so far: its counts, why it ended, what went wrong. Shared by all readers of answers."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from museway_engine.allowance import Counts
from museway_engine.events import UNKNOWN
from museway_engine.worker.shapes import Meta, Usage

WorkerFinish = Literal["stop", "length", "tool_calls", "content_filter", "abort"]


class Failure(Struct, frozen=True):
    """An error that a worker told of: the status it had or would have had, and its own text (never to be forwarded)."""

    status: int
    message: str


COUNT_END = 1 << 31
"""No call makes so many tokens; a count from here on, or below zero, is a worker out of its mind."""


class CountsAbsurd(Exception):
    """The worker reported a count that can't be one; nothing it says of this call is believed."""


class Tally:
    """Cumulative; -1 is "not said". `is_final`: the counts are the worker's last word. `is_over`: the answer is complete."""

    __slots__ = (
        "cached",
        "completion",
        "failure",
        "finish",
        "is_final",
        "is_over",
        "matched",
        "prompt",
        "reasoning",
        "spoke",
    )

    def __init__(self) -> None:
        self.prompt = UNKNOWN
        self.cached = 0
        self.completion = UNKNOWN
        self.reasoning = 0
        self.finish: WorkerFinish | None = None
        self.matched: int | str | None = None
        self.failure: Failure | None = None
        self.is_final = False
        self.is_over = False
        self.spoke = False

    def take_usage(self, usage: Usage) -> None:
        """Raises CountsAbsurd: no count outside [0, 2^31) gets past here."""
        completion, prompt = usage.completion_tokens, usage.prompt_tokens
        cached, reasoning = usage.cached, usage.reasoning
        _check(completion, prompt, cached, reasoning)
        if completion is not None:
            self.completion = completion
        if prompt is not None:
            self.prompt = prompt
        self.cached = cached
        self.reasoning = reasoning

    def take_meta(self, meta: Meta) -> None:
        """Raises CountsAbsurd."""
        _check(meta.completion_tokens, meta.prompt_tokens, meta.cached_tokens, 0)
        if meta.completion_tokens is not None:
            self.completion = meta.completion_tokens
        if meta.prompt_tokens is not None:
            self.prompt = meta.prompt_tokens
        self.cached = meta.cached_tokens or 0

    @property
    def counts(self) -> Counts | None:
        """None where the worker gave no counts at all."""
        if self.completion < 0:
            return None
        reasoning = min(self.reasoning, self.completion)
        return Counts(max(self.prompt, 0), self.cached, reasoning, self.completion - reasoning)


def _check(completion: int | None, prompt: int | None, cached: int | None, reasoning: int) -> None:
    if not (
        0 <= (completion or 0) < COUNT_END
        and 0 <= (prompt or 0) < COUNT_END
        and 0 <= (cached or 0) < COUNT_END
        and 0 <= reasoning < COUNT_END
    ):
        raise CountsAbsurd


def finish_of(reason: str) -> WorkerFinish:
    """A worker's finish reason; what we do not know is taken for a plain end."""
    match reason:
        case "length" | "tool_calls" | "content_filter" | "abort" | "stop":
            return reason
        case _:
            return "stop"
