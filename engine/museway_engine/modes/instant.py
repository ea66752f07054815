"""Instant: no reasoning, one call per choice; the worker's own text is spliced through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from museway_engine.allowance import AllowanceRefused, CallSpec
from museway_engine.errors import EngineError
from museway_engine.events import Done, Finish, StopReason
from museway_engine.lifetimes import Crew
from museway_engine.modes.channel import Channel
from museway_engine.modes.mode import Batches, Turn, finish_reason, stop_reason
from museway_engine.rid import Phase, make_rid
from museway_engine.worker.call import Call
from museway_engine.worker.stream import ChatEvent


@asynccontextmanager
async def instant(turn: Turn) -> AsyncGenerator[Batches]:
    """Entering waits for the first tokens of a single choice. Raises the engine's errors and AllowanceRefused."""
    prepared = turn.prepared
    if not prepared.is_exact and prepared.prompt_bound + prepared.max_tokens > turn.facts.context:
        await turn.prompt_ids()  # the bound does not prove that it fits: count
    n = turn.completion.n
    if n == 1:
        async with _answer(turn, 0) as call:
            yield _single(call)
        return
    channel = Channel()
    async with Crew() as crew:
        ends = _Ends(channel, n)
        for choice in range(n):
            crew.start(_one_of_many(turn, choice, channel, ends))
        yield channel


def _answer(turn: Turn, choice: int) -> Call[ChatEvent]:
    prepared = turn.prepared
    spec = CallSpec(
        rid=make_rid(turn.completion.request_id, Phase.ANSWER, choice=choice),
        phase=Phase.ANSWER,
        agent=0,
        prompt_bound=prepared.prompt_bound,
        max_tokens=prepared.max_tokens,
        priced_prompt=0 if choice else None,
    )
    return turn.chat(spec, choice=choice, whole=not turn.completion.stream)


async def _single(call: Call[ChatEvent]) -> Batches:
    async for batch in call:
        yield batch
    yield [Finish(0, finish_reason(call.tally)), Done(stop_reason(call.tally, is_late=call.is_late))]


class _Ends:
    """Counts the choices that are complete; the last one closes the channel with `Done`."""

    def __init__(self, channel: Channel, choices: int) -> None:
        self._channel = channel
        self._left = choices
        self._reasons: set[StopReason] = set()

    def end(self, choice: int, call: Call[ChatEvent]) -> None:
        self._left -= 1
        self._reasons.add(stop_reason(call.tally, is_late=call.is_late))
        self._channel.put_nowait([Finish(choice, finish_reason(call.tally))])
        if self._left == 0:
            self._channel.put_nowait([Done(self._reason())])
            self._channel.close()

    def _reason(self) -> StopReason:
        """One reason for all: the least complete."""
        order: tuple[StopReason, ...] = ("deadline", "length", "tool_call", "complete")
        return next(reason for reason in order if reason in self._reasons)


async def _one_of_many(turn: Turn, choice: int, channel: Channel, ends: _Ends) -> None:
    try:
        async with _answer(turn, choice) as call:
            async for batch in call:
                await channel.put(batch)
            ends.end(choice, call)
    except (EngineError, AllowanceRefused) as error:
        channel.fail(error)
