"""The engine as the gateway sees it: prepare a request, run it, tokenize, say what it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from museway_engine.allowance import Allowance
from museway_engine.completion import Completion, Mode
from museway_engine.errors import InvalidForModel
from museway_engine.events import Chosen
from museway_engine.lifetimes import Crew
from museway_engine.modes.bounds import prepare
from museway_engine.modes.contemplating.contemplating import contemplating
from museway_engine.modes.instant import instant
from museway_engine.modes.mode import Batches, Running, Turn
from museway_engine.modes.thinking import thinking
from museway_engine.pool.health import Pace
from museway_engine.pool.pool import QueueLimits
from museway_engine.pool.worker import Worker
from museway_engine.run import ModelInfo, Prepared, WorkerState
from museway_engine.served import ModelConfig, ServedModel
from museway_engine.worker.client import Timing

__all__ = ["Engine", "ModelConfig", "Pace", "QueueLimits", "Timing"]

log = logging.getLogger("museway.engine")

_MODES = (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING, Mode.AUTO)


class Engine:
    """One per process. Owns the connections to all workers and the task that watches them."""

    def __init__(self, models: Sequence[ServedModel], secret: bytes) -> None:
        self._secret = secret
        self._models = {model.config.id: model for model in models}
        self._crew = Crew()

    @classmethod
    async def open(
        cls,
        models: Sequence[ModelConfig],
        *,
        secret: bytes,
        timing: Timing | None = None,
        queue: QueueLimits | None = None,
        pace: Pace | None = None,
    ) -> Engine:
        """Start watching the workers; none needs to be up. `secret` makes the fences around drafts unguessable.

        Raises ValueError for a URL or a profile that makes no sense.
        """
        served = [
            ServedModel(m, timing=timing or Timing(), queue=queue or QueueLimits(), pace=pace or Pace()) for m in models
        ]
        engine = cls(served, secret)
        engine._crew.start(engine._watch())
        return engine

    async def _watch(self) -> None:
        """Until cancelled. Should it ever end otherwise, no worker is ready any more: /readyz must go down with it."""
        try:
            async with asyncio.TaskGroup() as group:
                for model in self._models.values():
                    group.create_task(model.monitor.run())
        finally:
            for worker in self._all_workers():
                worker.gone("not watched")

    def prepare(self, completion: Completion, *, prompt_tokens: int | None = None) -> Prepared:
        """Decide the mode and the bounds; pure. `prompt_tokens`: the exact count, where it was asked of a worker.

        Raises InvalidForModel (too many agents, n with contemplating, …), ContextTooLong, and NoWorker where no worker
        of the model was ever seen, so that nothing is known of it.
        """
        return prepare(completion, self._model(completion.model).ready_facts, prompt_tokens)

    def run(self, prepared: Prepared, *, allowance: Allowance, cache_salt: str, affinity_salt: str) -> Running:
        """Run it: a context manager that gives an iterator of batches of events; the last event is `Done`.

        When `Done` is given, every call's meter is closed. Leaving the context early aborts every live call by rid,
        reads each to its last chunk (2 s at most) and closes every meter. Raises, on entering or from the iterator,
        before the first batch: WorkerLost(delivered=False), NoWorker, InvalidForModel, DeadlinePassed, AllowanceRefused
        (as `Allowance.open` raised it); after it: WorkerLost(delivered=True). Affinity is by conversation within
        `affinity_salt`; `cache_salt` (pool/isolation.py) separates the tenants' prefixes at the workers.
        """
        served = self._model(prepared.completion.model)
        turn = Turn(
            served,
            prepared,
            allowance=allowance,
            secret=self._secret,
            cache_salt=cache_salt,
            affinity_salt=affinity_salt,
        )
        return _mode(turn) if prepared.mode is not Mode.AUTO else _telling_choice(turn)

    async def tokenize(self, completion: Completion) -> list[int]:
        """The ids of the client's prompt in the instant rendering (what /v1/tokenize counts).

        Raises NoWorker, WorkerLost, InvalidForModel.
        """
        served = self._model(completion.model)
        kwargs = served.ready_facts.profile.kwargs
        ids, _ = await served.tokenized(lambda tokenizer: tokenizer.conversation(completion, kwargs))
        return ids

    def models(self) -> list[ModelInfo]:
        """All configured models; `context` is 0 until a worker was seen."""
        return [
            ModelInfo(id=name, context=m.facts.context if m.facts else 0, modes=_MODES, created=m.created)
            for name, m in self._models.items()
        ]

    def workers(self) -> list[WorkerState]:
        return [
            WorkerState(
                url=worker.url,
                model=worker.model,
                ready=worker.is_ready,
                reason=worker.state,
                in_flight=worker.in_flight,
            )
            for worker in self._all_workers()
        ]

    def _all_workers(self) -> list[Worker]:
        return [worker for model in self._models.values() for worker in model.pool.workers]

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether every model had a ready worker within `timeout_s`."""
        waits = [model.monitor.wait_ready(timeout_s) for model in self._models.values()]
        return all(await asyncio.gather(*waits))

    async def close(self) -> None:
        """Stop watching and cut the connections. To be called after every run's context was left."""
        await self._crew.disband()
        for model in self._models.values():
            model.close()

    def _model(self, name: str) -> ServedModel:
        served = self._models.get(name)
        if served is None:
            raise InvalidForModel(f"There is no model {name!r}.", param="model", code="model_not_found")
        return served


def _mode(turn: Turn) -> Running:
    match turn.prepared.resolved:
        case Mode.THINKING:
            return thinking(turn)
        case Mode.CONTEMPLATING:
            return contemplating(turn)
        case _:
            return instant(turn)


@asynccontextmanager
async def _telling_choice(turn: Turn) -> AsyncGenerator[Batches]:
    async with _mode(turn) as batches:
        yield _chosen_first(turn.prepared, batches)


async def _chosen_first(prepared: Prepared, batches: Batches) -> Batches:
    yield [Chosen(prepared.resolved, prepared.rule)]
    async for batch in batches:
        yield batch
