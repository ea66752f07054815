"""Instant: no reasoning, one call per choice; the worker's own text is spliced through."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from museway_engine.allowance import CallSpec
from museway_engine.events import AnyEvent, Done, Finish
from museway_engine.modes.choices import answers
from museway_engine.modes.mode import Batch, Batches, Running, Turn, finish_reason, stop_reason
from museway_engine.rid import Phase, make_rid
from museway_engine.worker.call import Call
from museway_engine.worker.stream import ChatEvent


def instant(turn: Turn) -> Running:
    """Raises the engine's errors and AllowanceRefused, before the first batch from the iterator."""
    return OneAnswer(turn) if turn.completion.n == 1 else _several(turn)


class OneAnswer:
    """One choice, one call. The common case, so a class: each asynchronous generator costs as much as a dozen calls."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._call: Call[ChatEvent] | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        await _count_if_needed(self._turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            await self._call.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        call = self._call
        if call is None:
            call = _order(self._turn, 0)
            await call.__aenter__()
            self._call = call
        if self._is_over:
            raise StopAsyncIteration
        batch = await call.batch()
        if batch:
            return batch
        self._is_over = True
        return _end(call, 0)


@asynccontextmanager
async def _several(turn: Turn) -> AsyncGenerator[Batches]:
    await _count_if_needed(turn)

    def answering(choice: int, stack: AsyncExitStack) -> Batches:
        return _answer(turn, choice, stack)

    async with answers(turn.completion.n, answering) as batches:
        yield batches


async def _count_if_needed(turn: Turn) -> None:
    """Ask for the exact count where the bound does not prove that prompt and answer fit the context."""
    prepared = turn.prepared
    if not prepared.is_exact and prepared.prompt_bound + prepared.max_tokens > turn.facts.context:
        await turn.prompt_ids()


async def _answer(turn: Turn, choice: int, stack: AsyncExitStack) -> Batches:
    call = _order(turn, choice)
    await stack.enter_async_context(call)
    async for batch in call:
        yield batch
    yield _end(call, choice)


def _order(turn: Turn, choice: int) -> Call[ChatEvent]:
    prepared = turn.prepared
    spec = CallSpec(
        rid=make_rid(turn.completion.request_id, Phase.ANSWER, choice=choice),
        phase=Phase.ANSWER,
        agent=0,
        prompt_bound=prepared.prompt_bound,
        max_tokens=prepared.max_tokens,
        priced_prompt=0 if choice else None,
        whole=not turn.completion.stream,
    )
    return turn.chat(spec, choice=choice, whole=not turn.completion.stream)


def _end(call: Call[ChatEvent], choice: int) -> list[AnyEvent]:
    return [Finish(choice, finish_reason(call.tally)), Done(stop_reason(call.tally, is_late=call.is_late))]
