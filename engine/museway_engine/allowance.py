"""How the engine asks whether it may go on, and reports what it used. The engine knows no money (DESIGN §1).

Serving implements both protocols (`museway_platform.serving.metering`); `tests/engine` has an implementation that allows
everything and keeps a book. Every engine call goes through `Allowance.open` before a byte is sent, and through exactly one
`CallMeter.close` after: that is what makes invariants I1 and I9 hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from museway_engine.rid import Phase


class Counts(Struct, frozen=True, gc=False):
    """What a worker reported of one call, cumulative. `prompt` includes `cached`; `output` excludes `reasoning`."""

    prompt: int
    cached: int
    reasoning: int
    output: int


class Outcome(StrEnum):
    """How a call ended. A call that we stopped is COMPLETE if its final usage was read, else INTERRUPTED (DESIGN §4)."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"
    FAILED = "failed"


class Blame(StrEnum):
    """Why a call did not end by itself; decides what is billed and what is credited."""

    NONE = "none"
    CLIENT = "client"
    """The client left, or reached a bound of its own: what was delivered is billed."""
    MODE = "mode"
    """The mode needed it no longer (agreement, deadline): what it produced is billed."""
    WORKER = "worker"
    """The worker was lost: what was delivered is billed, then credited by policy. Nothing delivered: nothing billed."""


class CallSpec(Struct, frozen=True, kw_only=True):
    """One engine call about to be sent. Tokens everywhere.

    `prompt_bound` is never less than what the worker will count (asserted when it reports). `priced_prompt` is how much of
    the prompt may be charged: None is all that is measured, 0 is free (a continuation). Of that, `policy_cached` is charged
    at the cached price whatever the worker reports. `internal` calls are not delivered to the client as text (agents): what
    they produce counts as billed as soon as it is reported. `whole` calls come in one piece: nothing can be cut from them,
    so they are dispatched with no more than their hold covers. `produces_reasoning` decides the class of what is produced
    where the worker does not tell reasoning apart.
    """

    rid: str
    phase: Phase
    agent: int
    prompt_bound: int
    max_tokens: int
    priced_prompt: int | None = None
    policy_cached: int = 0
    internal: bool = False
    whole: bool = False
    produces_reasoning: bool = False


class AllowanceRefused(Exception):
    """No hold covers the call. Serving's own refusal is its `__cause__` or an attribute; modes only react to it."""


class CallMeter(Protocol):
    """One call's counters. All methods but `close` are synchronous and cheap."""

    @property
    def max_tokens(self) -> int:
        """What the call may be dispatched with: the spec's, or less where balance and caps could never cover it."""
        ...

    def dispatched(self, worker: str) -> None:
        """The next thing that happens is that bytes leave for `worker`. May be called once."""
        ...

    def prompt(self, prompt: int, cached: int) -> None:
        """The worker's count of the prompt (cached included), as soon as it is known."""
        ...

    def count(self, reasoning: int, output: int) -> bool:
        """Internal calls only: cumulative tokens so far. False: the hold is used up, abort the call."""
        ...

    async def close(self, outcome: Outcome, counts: Counts | None, blame: Blame = Blame.NONE) -> None:
        """The call is over; `counts` is the worker's last word, None if it never gave one. Durable when it returns.

        Must be awaited exactly once per opened call. All that it does has happened when it first suspends; a cancellation
        after that only ends the wait for durability.
        """
        ...


class Allowance(Protocol):
    """What one request may still use."""

    async def open(self, spec: CallSpec) -> CallMeter:
        """Reserve the call's first step and give it a slot. Raises `AllowanceRefused`."""
        ...

    def fits(self, specs: Sequence[CallSpec]) -> bool:
        """Whether the worst case of all these calls together is within what the caller allowed (`max_cost`)."""
        ...
