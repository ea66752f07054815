"""Thinking: one chain in two calls. The first may only think and is cut by the worker at exactly the budget; the second
continues it by ids, may only answer, and gets the client's tools, format and stops. Works on any model and any double."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from museway_engine.allowance import Blame, CallSpec
from museway_engine.events import AnyEvent, Done, Finish, Output, Reasoning, StopReason, text
from museway_engine.modes.choices import answers
from museway_engine.modes.holdback import HoldBack
from museway_engine.modes.instant import instant
from museway_engine.modes.mode import Batches, Turn, finish_reason, stop_reason
from museway_engine.rid import Phase, make_rid
from museway_engine.worker.call import Call
from museway_engine.worker.generate import Piece
from museway_engine.worker.stream import ChatEvent

THINK_SHARE = 0.6
"""Of the caller's time; the rest is kept for the answer."""


@asynccontextmanager
async def thinking(turn: Turn) -> AsyncGenerator[Batches]:
    """Raises the engine's errors and AllowanceRefused, before the first batch from the iterator.

    A budget of 0 is an instant answer.
    """
    if turn.prepared.budget > 0:
        turn.place(turn.prepared.prompt_bound + turn.prepared.max_tokens)
        prompt = await turn.prompt_ids()  # counts the prompt: the budget may shrink
    else:
        prompt = []
    if turn.prepared.budget == 0:
        async with instant(turn) as batches:
            yield batches
        return

    def answering(choice: int, stack: AsyncExitStack) -> Batches:
        return _answer(turn, prompt, choice, stack)

    async with answers(turn.completion.n, answering) as batches:
        yield batches


async def _answer(turn: Turn, prompt: list[int], choice: int, stack: AsyncExitStack) -> Batches:
    chain = Chain(turn, prompt, choice)
    think = turn.generate(chain.spec, chain.opening, stops_at_close=True, deadline=turn.deadline(THINK_SHARE))
    chain.spec = (await stack.enter_async_context(think)).spec  # another rid where it was tried again
    async for pieces in think:
        if events := chain.take(pieces):
            yield events
        if chain.is_over_budget:
            think.stop(Blame.CLIENT)
    if events := chain.finish(think):
        yield events
    answer = turn.chat(chain.answer_spec(), choice=choice, input_ids=chain.continued())
    await stack.enter_async_context(answer)
    lead = Lead(strips=not turn.completion.sampling.logprobs)
    async for batch in answer:
        if events := lead.strip(batch):
            yield events
    why = stop_reason(answer.tally, is_late=answer.is_late)
    yield [
        Finish(choice, finish_reason(answer.tally)),
        Done(chain.why if why == "complete" else why, budget=chain.budget, used=chain.used),
    ]


class Chain:
    """The first call's state: what was thought, and how it ended. Tokens and ids; `why` is set by `finish`."""

    def __init__(self, turn: Turn, prompt: list[int], choice: int) -> None:
        ids = turn.facts.thinking
        self._turn = turn
        self._choice = choice
        self._rules = turn.facts.profile.thinking
        self._hold = HoldBack(self._rules.close)
        self._ids: list[int] = []
        self.budget = turn.prepared.budget
        self.opening = [*prompt[: len(prompt) - ids.drop], *ids.open]
        self.why: StopReason = "budget"
        self.used = 0
        self.spec = CallSpec(
            rid=make_rid(turn.completion.request_id, Phase.THINK, choice=choice, segment=1),
            phase=Phase.THINK,
            agent=0,
            prompt_bound=len(self.opening),
            max_tokens=self.budget,
            priced_prompt=0 if choice else len(prompt),
            produces_reasoning=True,
        )

    @property
    def is_over_budget(self) -> bool:
        """The worker did not keep to the maximum it was given."""
        return len(self._ids) > self.budget

    def take(self, pieces: Sequence[Piece]) -> list[AnyEvent]:
        """What may be shown of these pieces; counts never pass the budget."""
        events: list[AnyEvent] = []
        for piece in pieces:
            is_within = len(self._ids) < self.budget
            self._ids += piece.ids
            shown = self._hold.feed(piece.text) if is_within else ""
            if shown:
                events.append(self._event(shown, min(piece.n, self.budget)))
        return events

    def finish(self, call: Call[Piece]) -> list[AnyEvent]:
        """The first call is over; gives what was held back for a close marker that did not come."""
        tally = call.tally
        thinking = self._turn.facts.thinking
        self.used = min(len(self._ids) if tally.completion < 0 else tally.completion, self.budget)
        is_closed = tally.finish == "stop" and tally.matched in (thinking.close_id, self._rules.close)
        if is_closed:
            self.why = "complete"
        elif tally.finish == "stop":
            self.why = "eos"
            if self._ids and isinstance(tally.matched, int) and self._ids[-1] == tally.matched:
                self._ids.pop()  # the end token would close the turn
        elif call.is_late:
            self.why = "deadline"
        held = "" if is_closed else self._hold.end()
        return [self._event(held, self.used)] if held else []

    def continued(self) -> list[int]:
        """What the second call goes on from: exactly what was sent, what came, and the closing ids."""
        ids = self._turn.facts.thinking
        ending = ids.after_close if self.why == "complete" else ids.cut
        return [*self.opening, *self._ids[: self.budget], *ending]

    def answer_spec(self) -> CallSpec:
        return CallSpec(
            rid=make_rid(self._turn.completion.request_id, Phase.CONTINUATION, choice=self._choice, segment=2),
            phase=Phase.CONTINUATION,
            agent=0,
            prompt_bound=len(self.continued()),
            max_tokens=self._turn.prepared.max_tokens - self.used,
            priced_prompt=0,
        )

    def _event(self, shown: str, n: int) -> Reasoning:
        return Reasoning(self.spec.rid, self._choice, msgspec.json.encode(shown), n)


class Lead:
    """Drops the whitespace that stands between a chain's end and its answer.

    Not where log probabilities go along: they would no longer fit the text.
    """

    __slots__ = ("_strips",)

    def __init__(self, *, strips: bool) -> None:
        self._strips = strips

    def strip(self, batch: Sequence[ChatEvent]) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        for event in batch:
            if self._strips and isinstance(event, Output):
                shown = text(event.json).lstrip()
                if shown:
                    self._strips = False
                    events.append(Output(event.rid, event.choice, msgspec.json.encode(shown), event.n))
            else:
                events.append(event)
        return events
