"""What the gateway sees of the engine: prepare a request, run it, tokenize, say what it serves.

`Engine` is implemented in `museway_engine.pool.engine`; it is a Protocol only so that this page can be read alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct

from museway_engine.allowance import Allowance
from museway_engine.completion import Completion, Mode
from museway_engine.events import AnyEvent


class Bound(Struct, frozen=True, kw_only=True):
    """Tokens by class that a request can take, at most (or likely, or at least)."""

    input: int
    cached_input: int
    reasoning: int
    output: int


class Prepared(Struct, frozen=True, kw_only=True):
    """A request whose mode, maxima and bounds are decided: pure, no worker was asked.

    `mode` is what was asked for (AUTO stays AUTO), `resolved` what will run. `prompt_bound` is an upper bound of the
    client's prompt in tokens; `max_tokens` the effective maximum of the answer (reasoning included); `budget` the chain's
    budget inside it (Thinking). `first` is the worst case of the first phase, `worst` of the whole request.
    """

    completion: Completion
    mode: Mode
    resolved: Mode
    rule: str
    prompt_bound: int
    max_tokens: int
    budget: int
    agents: int
    rounds: int
    agent_max_tokens: int
    first: Bound
    worst: Bound
    likely: Bound
    least: Bound


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A served model as `GET /v1/models` shows it."""

    id: str
    context: int
    modes: tuple[Mode, ...]
    created: int


class WorkerState(Struct, frozen=True, kw_only=True):
    url: str
    model: str
    ready: bool
    reason: str
    in_flight: int


class Engine(Protocol):
    def prepare(self, completion: Completion, *, prompt_tokens: int | None = None) -> Prepared:
        """Decide the mode and the bounds. `prompt_tokens`: the exact count, where it was asked of a worker.

        Raises InvalidForModel (unknown mode for the model, too many agents, n with contemplating, …), ContextTooLong.
        """
        ...

    def run(
        self, prepared: Prepared, *, allowance: Allowance, cache_salt: str, affinity_salt: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[AnyEvent]]]:
        """Run it. The iterator gives batches of events, the last event is `Done`.

        Leaving the context early aborts every live call by rid, reads each to its last chunk (at most 2 s), and closes
        every call's meter. Raises EngineError: WorkerLost(delivered=False), NoWorker, … before the first batch;
        WorkerLost(delivered=True) after it. Affinity is by conversation within `affinity_salt`.
        """
        ...

    async def tokenize(self, completion: Completion) -> list[int]:
        """The ids of the client's prompt in the instant rendering (what /v1/tokenize counts)."""
        ...

    def models(self) -> list[ModelInfo]: ...

    def workers(self) -> list[WorkerState]: ...

    async def wait_ready(self, timeout_s: float) -> bool: ...

    async def close(self) -> None: ...
