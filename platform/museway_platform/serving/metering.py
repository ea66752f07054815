"""Where an engine event becomes a count: the only bridge between engine and billing.

The rule of the room: the slot is updated *before* the bytes it counts leave for the client, and what no hold covers never
leaves (invariants I1 and I3).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from museway_billing.journal import Slot
from museway_billing.meter import Meter
from museway_billing.usage import State, UsageRecord
from museway_engine.allowance import Blame, CallSpec, Counts, Outcome
from museway_engine.events import UNKNOWN, AnyEvent, Output, Reasoning, ToolCall

log = logging.getLogger("museway.metering")

STATE: dict[Outcome, State] = {
    Outcome.COMPLETE: State.COMPLETE,
    Outcome.INTERRUPTED: State.INTERRUPTED,
    Outcome.UNKNOWN: State.UNKNOWN,
    Outcome.FAILED: State.FAILED,
}


def text_size(event: AnyEvent) -> int:
    """Bytes of text in an event, at most."""
    match event:
        case Output() | Reasoning():
            return len(event.json)
        case ToolCall():
            return len(event.arguments) + len(event.name or "")
        case _:
            return 0


class CallMeter:
    """The counters of one engine call (`museway_engine.allowance.CallMeter`). Not for use after `close`.

    `on_closed` makes the record durable; `now_us` is microseconds since the epoch, UTC.
    """

    __slots__ = (
        "_ending",
        "_meter",
        "_now_us",
        "_on_closed",
        "_uncounted",
        "covered",
        "extend_at",
        "max_tokens",
        "output",
        "reasoning",
        "slot",
        "spec",
        "worker",
    )

    def __init__(
        self,
        spec: CallSpec,
        slot: Slot,
        *,
        max_tokens: int,
        covered: int,
        on_closed: Callable[[CallMeter, UsageRecord | None], Awaitable[None]],
        now_us: Callable[[], int],
    ) -> None:
        self._meter = Meter(slot.identity)
        self._on_closed = on_closed
        self._now_us = now_us
        self._uncounted = 0
        self._ending: tuple[Outcome, Counts | None, Blame] = (Outcome.INTERRUPTED, None, Blame.CLIENT)
        self.slot = slot
        self.spec = spec
        self.max_tokens = max_tokens
        self.worker: str | None = None
        self.reasoning = 0
        self.output = 0
        self.covered = 0
        self.extend_at = 0
        self.cover(covered)

    def cover(self, tokens: int) -> None:
        """The hold now covers this many tokens of the call; ask for more when half of the last step is used."""
        step = tokens - self.covered
        self.covered = tokens
        self.extend_at = tokens if tokens >= self.max_tokens else tokens - step // 2

    def dispatched(self, worker: str) -> None:
        self.worker = worker
        self.slot.dispatched(worker)

    def prompt(self, prompt: int, cached: int) -> None:
        if prompt > self.spec.prompt_bound:
            log.error("prompt bound broken: %s counted, %s bound", prompt, self.spec.prompt_bound)
        self._meter.prompt(prompt, cached)  # into the slot with the first delivery: before it, the prompt isn't charged

    def count(self, reasoning: int, output: int) -> bool:
        """Internal calls: what is reported is billed, up to the cover."""
        total = reasoning + output
        if self.spec.produces_reasoning:
            reasoning, output = total, 0
        self.reasoning, self.output = reasoning, output
        self.flush()
        return total < self.covered or total == self.max_tokens

    def flush(self) -> None:
        """Write the delivered counts into the slot."""
        self._meter.delivered(self.reasoning, self.output)
        self.slot.update(self._meter.prompt_tokens, self._meter.cached_tokens, self.reasoning, self.output)

    def unknown(self, size: int) -> int:
        """Text of `size` bytes is about to go out for which the worker gave no count (I8).

        The most that the call can have delivered with it: a token has at least a byte, so the cover holds for it too.
        """
        self._uncounted += size
        self._meter.delivered(UNKNOWN, UNKNOWN)
        return self.reasoning + self.output + self._uncounted

    async def close(self, outcome: Outcome, counts: Counts | None, blame: Blame = Blame.NONE) -> None:
        """Durable when it returns. A call that was never dispatched makes no record (DESIGN §7)."""
        self._ending = (outcome, counts, blame)
        record = None if self.worker is None else self._record(outcome, counts, blame)
        await self._on_closed(self, record)

    def deliver_late(self, n: int, *, is_reasoning: bool) -> None:
        """Text of a closed call goes out, `n` its count so far."""
        if is_reasoning:
            self.reasoning = max(self.reasoning, n - self.output)
        else:
            self.output = max(self.output, n - self.reasoning)

    def abandoned(self, *, nothing_left: bool) -> UsageRecord:
        """The record of the closed call again, of a request that ended before all of it was given out: what was not is
        unbilled. `nothing_left`: the answer would have been one piece, so nothing of it was. Agents' work stays as it is.
        """
        outcome, counts, blame = self._ending
        if self.spec.internal:
            return self._record(outcome, counts, blame)
        if nothing_left:
            self._meter.nothing_delivered()
        else:
            self._meter.delivered(self.reasoning, self.output)
        return self._record(outcome, counts, Blame.CLIENT if blame is Blame.NONE else blame)

    def _record(self, outcome: Outcome, counts: Counts | None, blame: Blame) -> UsageRecord:
        if counts is not None and self.spec.produces_reasoning:
            counts = Counts(counts.prompt, counts.cached, counts.reasoning + counts.output, 0)
        stopped = blame in (Blame.CLIENT, Blame.WORKER)
        reported = None if counts is None else (counts.prompt, counts.cached, counts.reasoning, counts.output)
        return self._meter.finish(
            STATE[outcome],
            reported,
            stopped=stopped,
            covered=self.covered,
            worker=self.worker,
            ended=self._now_us(),
            credit=blame is Blame.WORKER,
        )
