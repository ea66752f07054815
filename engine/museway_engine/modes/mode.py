"""One request being answered: what all modes need to make their calls.

A mode is an async context manager that gives an async iterator of batches. Its tasks live in the context and write to a
bounded channel; nothing is yielded inside a task group or a cancel scope (engine/decisions/0001).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias, TypeVar

from museway_engine.allowance import Allowance, CallSpec
from museway_engine.errors import DeadlinePassed
from museway_engine.events import AnyEvent, FinishReason, StopReason
from museway_engine.modes.bounds import prepare
from museway_engine.pool.affinity import affinity_key
from museway_engine.pool.pool import Wish
from museway_engine.pool.worker import Worker
from museway_engine.profiles.facts import Facts
from museway_engine.run import Prepared
from museway_engine.served import ServedModel
from museway_engine.worker.call import Call, Order
from museway_engine.worker.encode import Envelope, encode_chat, encode_generate
from museway_engine.worker.generate import GenerateStream, Piece
from museway_engine.worker.stream import ChatEvent, ChatStream, WholeAnswer
from museway_engine.worker.tally import Tally
from museway_engine.worker.tokenizer import Tokenizer

T = TypeVar("T")
Batch: TypeAlias = Sequence[AnyEvent]
Batches: TypeAlias = AsyncIterator[Batch]
Running: TypeAlias = AbstractAsyncContextManager[Batches]

CONTINUATION_PRIORITY: Final = 10
"""A continuation goes before new requests: its prefix is still in the cache, and its client has waited once."""


class Turn:
    """The request, the allowance, the worker preference. `pinned` is where all calls should go, once one is chosen."""

    def __init__(
        self,
        served: ServedModel,
        prepared: Prepared,
        *,
        allowance: Allowance,
        secret: bytes,
        cache_salt: str,
        affinity_salt: str,
    ) -> None:
        completion = prepared.completion
        self.served = served
        self.facts: Facts = served.ready_facts
        self.prepared = prepared
        self.completion = completion
        self.allowance = allowance
        # what one worker prefers decides nothing
        self.key = affinity_key(completion, affinity_salt) if len(served.pool.workers) > 1 else b""
        self.pinned: Worker | None = None
        self.began = 0.0 if completion.deadline_ms is None else asyncio.get_running_loop().time()
        self.secret = secret
        self._cache_salt = cache_salt

    def deadline(self, share: float = 1.0) -> float | None:
        """The moment (the loop's clock) at which `share` of the caller's time is over; None where there is no limit."""
        limit = self.completion.deadline_ms
        return None if limit is None else self.began + share * limit / 1000

    def place(self, tokens: int) -> None:
        """Choose the worker for a group of calls and keep to it; where none is ready, the calls say so."""
        self.pinned = self.served.pool.choose(self.key, tokens)

    async def ids(self, text: str) -> list[int]:
        """The ids of a text alone. Raises NoWorker, WorkerLost."""
        return await self._tokenized(lambda tokenizer: tokenizer.text(text))

    async def prompt_ids(self) -> list[int]:
        """The client's prompt in the instant rendering; `prepared` becomes exact.

        Raises ContextTooLong, InvalidForModel, NoWorker, WorkerLost.
        """
        kwargs = self.facts.profile.kwargs
        ids = await self._tokenized(lambda tokenizer: tokenizer.conversation(self.completion, kwargs))
        self.recount(len(ids))
        return ids

    async def _tokenized(self, ask: Callable[[Tokenizer], Awaitable[list[int]]]) -> list[int]:
        """Asks the worker that the calls will go to; where it is lost, they go where the answer came from.

        Raises DeadlinePassed too.
        """
        limit = asyncio.timeout_at(self.deadline())
        try:
            async with limit:
                ids, self.pinned = await self.served.tokenized(ask, key=self.key, prefer=self.pinned)
        except TimeoutError as error:
            if limit.expired():
                raise DeadlinePassed from error
            raise
        return ids

    def recount(self, prompt_tokens: int) -> None:
        """Prepare again with the exact count. Raises ContextTooLong, InvalidForModel."""
        exact = prepare(self.completion, self.facts, prompt_tokens)
        assert exact.resolved is self.prepared.resolved, "the choice of the mode does not depend on the count"
        self.prepared = exact

    # ------------------------------------------------------------------ calls

    def chat(
        self, spec: CallSpec, *, choice: int = 0, input_ids: Sequence[int] | None = None, whole: bool = False
    ) -> Call[ChatEvent]:
        """A call that answers the client: its tools, its format, its stops. By ids, the text is taken as it is.

        `whole`: the answer comes in one piece, for a client that does not stream.
        """
        rules = self.facts.profile
        by_ids = input_ids is not None

        def body(worker: Worker, rid: str, max_tokens: int) -> bytes:
            return encode_chat(
                self.completion,
                self._envelope(worker, rid, max_tokens, urgent=by_ids),
                stream=not whole,
                kwargs=rules.kwargs,
                input_ids=input_ids,
                separate_reasoning=not by_ids,
                choice=choice,
            )

        def reader(rid: str) -> ChatStream | WholeAnswer:
            return WholeAnswer(rid, choice) if whole else ChatStream(rid, choice)

        order = Order(path="/v1/chat/completions", body=body, reader=reader)
        return self._call(spec, order, urgent=by_ids)

    def generate(
        self,
        spec: CallSpec,
        input_ids: Sequence[int],
        *,
        temperature: float | None = None,
        seed: int | None = None,
        stops_at_close: bool = False,
        deadline: float | None = None,
    ) -> Call[Piece]:
        """A call that continues ids freely: no tools, no format, none of the client's stops."""
        thinking, rules = self.facts.thinking, self.facts.profile.thinking
        sampling = self.completion.sampling
        stop = (rules.close,) if stops_at_close and thinking.close_id is None and rules.close else ()
        stop_ids = (thinking.close_id,) if stops_at_close and thinking.close_id is not None else ()

        def body(worker: Worker, rid: str, max_tokens: int) -> bytes:
            envelope = self._envelope(worker, rid, max_tokens, urgent=False)
            return encode_generate(
                input_ids, sampling, envelope, stop=stop, stop_token_ids=stop_ids, temperature=temperature, seed=seed
            )

        order = Order(path="/generate", body=body, reader=lambda _: GenerateStream())
        return self._call(spec, order, urgent=False, deadline=deadline)

    def _call(self, spec: CallSpec, order: Order[T], *, urgent: bool, deadline: float | None = None) -> Call[T]:
        wish = Wish(key=self.key, tokens=spec.prompt_bound + spec.max_tokens // 2, pinned=self.pinned, urgent=urgent)
        return Call(
            self.served.pool,
            self.allowance,
            spec,
            order,
            wish,
            context=self.facts.context,
            deadline=self.deadline() if deadline is None else deadline,
        )

    def _envelope(self, worker: Worker, rid: str, max_tokens: int, *, urgent: bool) -> Envelope:
        priority = CONTINUATION_PRIORITY if urgent and worker.has_priorities else None
        return Envelope(rid=rid, max_tokens=max_tokens, cache_salt=self._cache_salt, priority=priority)


def finish_reason(tally: Tally) -> FinishReason:
    """How a choice ended, in the client's words; one that we stopped (deadline) ended by length."""
    finish = tally.finish
    return "length" if finish is None or finish == "abort" else finish


def stop_reason(tally: Tally, *, is_late: bool) -> StopReason:
    if is_late:
        return "deadline"
    match tally.finish:
        case "tool_calls":
            return "tool_call"
        case "length":
            return "length"
        case _:
            return "complete"
