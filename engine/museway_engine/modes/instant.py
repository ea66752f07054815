"""Instant: no reasoning, one call per choice; the worker's own text is spliced through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from museway_engine.allowance import CallSpec
from museway_engine.events import Done, Finish
from museway_engine.modes.choices import answers
from museway_engine.modes.mode import Batches, Turn, finish_reason, stop_reason
from museway_engine.rid import Phase, make_rid


@asynccontextmanager
async def instant(turn: Turn) -> AsyncGenerator[Batches]:
    """Raises the engine's errors and AllowanceRefused, before the first batch from the iterator."""
    prepared = turn.prepared
    if not prepared.is_exact and prepared.prompt_bound + prepared.max_tokens > turn.facts.context:
        await turn.prompt_ids()  # the bound does not prove that it fits: count

    def answering(choice: int, stack: AsyncExitStack) -> Batches:
        return _answer(turn, choice, stack)

    async with answers(turn.completion.n, answering) as batches:
        yield batches


async def _answer(turn: Turn, choice: int, stack: AsyncExitStack) -> Batches:
    prepared = turn.prepared
    spec = CallSpec(
        rid=make_rid(turn.completion.request_id, Phase.ANSWER, choice=choice),
        phase=Phase.ANSWER,
        agent=0,
        prompt_bound=prepared.prompt_bound,
        max_tokens=prepared.max_tokens,
        priced_prompt=0 if choice else None,
    )
    call = turn.chat(spec, choice=choice, whole=not turn.completion.stream)
    await stack.enter_async_context(call)
    async for batch in call:
        yield batch
    yield [Finish(choice, finish_reason(call.tally)), Done(stop_reason(call.tally, is_late=call.is_late))]
