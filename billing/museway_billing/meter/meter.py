"""One call's counters, and the record that they become. Pure: no clock, no I/O.

What is billed (DESIGN §2 I1):

| the call | reasoning, output | unbilled |
|---|---|---|
| ran to its end | what the worker reported | 0 |
| was stopped, its final usage was read | what was delivered | reported - billed |
| was stopped, nobody saw the end | what was delivered | None |
| text left, no count ever came | None, not charged | None |
| failed, or nothing was made | 0, and the prompt is free | reported, 0, or None |

Whatever the case, no more is billed than the hold covered. The prompt: `priced_prompt` of it may be charged (None: all
that was measured), `cached = min(total, max(policy, measured))` at the cached price, the rest as input.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct, structs

from museway_billing.money import NanoUsd
from museway_billing.prices.tariff import priced_lines, total
from museway_billing.usage import CallIdentity, State, UsageRecord

UNKNOWN = -1
"""A counter nobody has told us."""

Reported: TypeAlias = tuple[int, int, int, int]
"""A worker's last word on a call: prompt (cached included), cached, reasoning, output (reasoning excluded)."""


class _Produced(Struct, frozen=True, gc=False):
    state: State
    reasoning: int | None
    output: int | None
    unbilled: int | None


class _Prompt(Struct, frozen=True, gc=False):
    input: int | None
    cached_input: int | None


class Meter:
    """Counters of one call. `prompt_tokens`, `cached_tokens`, `reasoning`, `output` are -1 where unknown.

    Workers are outsiders: a count that falls is ignored, never asserted. Not for use after `finish`.
    """

    __slots__ = ("_uncounted", "cached_tokens", "identity", "output", "prompt_tokens", "reasoning")

    def __init__(self, identity: CallIdentity) -> None:
        self.identity = identity
        self.prompt_tokens = UNKNOWN
        self.cached_tokens = UNKNOWN
        self.reasoning = 0
        self.output = 0
        self._uncounted = False

    def prompt(self, prompt: int, cached: int) -> None:
        """The worker's count of the prompt, `cached` included in it. -1 for a part that it did not tell."""
        if prompt >= 0:
            self.prompt_tokens = prompt
            self.cached_tokens = 0 if cached <= 0 else min(cached, prompt)

    def delivered(self, reasoning: int, output: int) -> None:
        """Cumulative tokens whose bytes are about to leave (internal calls: that were reported).

        -1 for either: something is about to leave that the worker did not count (I8). A later known count covers it.
        """
        if reasoning < 0 or output < 0:
            self._uncounted = True
            return
        self._uncounted = False
        if reasoning > self.reasoning:
            self.reasoning = reasoning
        if output > self.output:
            self.output = output

    def nothing_delivered(self) -> None:
        """What was counted for delivery never left after all."""
        self.reasoning = self.output = 0
        self._uncounted = False

    def finish(
        self,
        outcome: State,
        reported: Reported | None,
        *,
        worker: str | None,
        ended: int,
        credit: bool = False,
        stopped: bool = False,
        covered: int | None = None,
    ) -> UsageRecord:
        """The record of the call. `ended`: microseconds since the epoch. `worker` None: it was never dispatched.

        `reported` is the worker's final count, None where it was not read. `stopped`: the call did not run to its end by
        itself, so only what was delivered is billed, even where the final usage was read. `covered`: reasoning + output
        that the hold covers; what is beyond is unbilled. `credit`: the whole amount is given back at once by policy.
        The record's state follows what is known: text that left makes FAILED to INTERRUPTED, no count at all UNKNOWN.
        """
        if reported is not None:
            self.prompt(reported[0], reported[1])
        produced = self._produced(outcome, reported, worker=worker, stopped=stopped, covered=covered)
        prompt = _Prompt(0, 0) if produced.state is State.FAILED else self._billed_prompt(produced)
        if prompt.input is None:
            produced = structs.replace(produced, state=State.UNKNOWN)
        return self._record(produced, prompt, worker=worker, ended=ended, credit=credit)

    def abandoned(self, *, worker: str, ended: int, credit: bool) -> UsageRecord:
        """The record of a dispatched call whose process died: `interrupted` at the counts so far, its end unseen.

        Where nothing had been delivered it is a record of 0: the failure was ours, so not even the prompt is charged.
        """
        if self.reasoning or self.output or self._uncounted:
            return self.finish(State.INTERRUPTED, None, worker=worker, ended=ended, credit=credit)
        nothing = _Produced(State.INTERRUPTED, 0, 0, None)
        return self._record(nothing, _Prompt(0, 0), worker=worker, ended=ended, credit=False)

    def _produced(
        self, outcome: State, reported: Reported | None, *, worker: str | None, stopped: bool, covered: int | None
    ) -> _Produced:
        made = None if reported is None else reported[2] + reported[3]
        nothing_left = not (self._uncounted or self.reasoning or self.output)
        if outcome is State.FAILED and (nothing_left or self.identity.internal):
            return _Produced(State.FAILED, 0, 0, 0 if worker is None else made)
        if reported is None or made is None:
            if self._uncounted or outcome is State.UNKNOWN:
                return _Produced(State.UNKNOWN, None, None, None)
            reasoning, output = _within(self.reasoning, self.output, covered)
            return _Produced(State.INTERRUPTED, reasoning, output, 0 if worker is None else None)
        ran = outcome in (State.COMPLETE, State.UNKNOWN) and not stopped
        state = State.COMPLETE if outcome is State.UNKNOWN else outcome
        if state is State.FAILED:
            state = State.INTERRUPTED
        if ran or self._uncounted:
            reasoning, output = _within(reported[2], reported[3], covered)
        else:
            reasoning, output = _split(self.reasoning, self.output, reported, covered)
        return _Produced(state, reasoning, output, made - reasoning - output)

    def _billed_prompt(self, produced: _Produced) -> _Prompt:
        """The prompt of a call that was not lost to a failure of ours: charged once the worker has told its count."""
        identity = self.identity
        if self.prompt_tokens < 0:
            if produced.reasoning == 0 and produced.output == 0:
                return _Prompt(0, 0)
            if identity.priced_prompt is None:
                return _Prompt(None, None)
        charged = self.prompt_tokens if identity.priced_prompt is None else identity.priced_prompt
        if identity.prompt_bound is not None and charged > identity.prompt_bound:
            charged = identity.prompt_bound
        cached = min(charged, max(identity.policy_cached, self.cached_tokens, 0))
        return _Prompt(charged - cached, cached)

    def _record(
        self, produced: _Produced, prompt: _Prompt, *, worker: str | None, ended: int, credit: bool
    ) -> UsageRecord:
        identity = self.identity
        lines = priced_lines(  # of an unknown count (None) nothing may be charged
            identity.tariff,
            input=prompt.input or 0,
            cached_input=prompt.cached_input or 0,
            reasoning=produced.reasoning or 0,
            output=produced.output or 0,
        )
        billed = total(lines)
        measured = self.prompt_tokens >= 0
        return UsageRecord(
            id=identity.record_id,
            request_id=identity.request_id,
            rid=identity.rid,
            hold_id=identity.hold_id,
            organization=identity.organization,
            project=identity.project,
            key=identity.key,
            mode=identity.mode,
            phase=identity.phase,
            agent=identity.agent,
            model=identity.model,
            worker=worker,
            input=prompt.input,
            cached_input=prompt.cached_input,
            measured_input=self.prompt_tokens - self.cached_tokens if measured else None,
            measured_cached=self.cached_tokens if measured else None,
            reasoning=produced.reasoning,
            output=produced.output,
            unbilled=produced.unbilled,
            state=produced.state,
            price_version=identity.tariff.version,
            lines=lines,
            amount_nano_usd=billed,
            credited_nano_usd=billed if credit else NanoUsd(0),
            created=identity.created,
            ended=max(ended, identity.created),  # the wall clock may have been set back meanwhile
        )


def _within(reasoning: int, output: int, covered: int | None) -> tuple[int, int]:
    """The counts cut to what the hold covers; output, which comes last, is cut first."""
    if covered is None or reasoning + output <= covered:
        return reasoning, output
    reasoning = min(reasoning, covered)
    return reasoning, covered - reasoning


def _split(reasoning: int, output: int, reported: Reported, covered: int | None) -> tuple[int, int]:
    """What was delivered, in the classes that the worker reports at the end.

    A worker may tell reasoning apart only in its final usage: the sum delivered is kept, within each class as reported.
    """
    sum_billed = min(reasoning + output, reported[2] + reported[3])
    billed_reasoning = min(reported[2], max(reasoning, sum_billed - reported[3]), sum_billed)
    return _within(billed_reasoning, min(reported[3], sum_billed - billed_reasoning), covered)


def from_slot(
    identity: CallIdentity,
    *,
    worker: str,
    prompt: int,
    cached: int,
    reasoning: int,
    output: int,
    ended: int,
    credit: bool,
) -> UsageRecord:
    """`Meter.abandoned` from what a journal slot holds; -1 is unknown."""
    meter = Meter(identity)
    meter.prompt(prompt, cached)
    meter.delivered(reasoning, output)
    return meter.abandoned(worker=worker, ended=ended, credit=credit)
