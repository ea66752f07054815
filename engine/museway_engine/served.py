"""One served model: its workers, and what the probe found out about it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from museway_engine.completion import Completion, Message
from museway_engine.errors import EngineError, NoWorker, WorkerLost
from museway_engine.pool.health import Monitor, Pace
from museway_engine.pool.pool import Pool, QueueLimits
from museway_engine.pool.worker import Worker
from museway_engine.profiles.facts import Facts
from museway_engine.profiles.probe import Probe
from museway_engine.profiles.profile import Profile, pick_profile, profiles
from museway_engine.worker.client import Client, Timing
from museway_engine.worker.shapes import ModelFacts, ServedModels, ServerFacts
from museway_engine.worker.tokenizer import Tokenizer

log = logging.getLogger("museway.engine")

_F = TypeVar("_F")
_CONTEXT_UNKNOWN = 8192
_models = msgspec.json.Decoder(ServedModels)
_model_facts = msgspec.json.Decoder(ModelFacts)
_server_facts = msgspec.json.Decoder(ServerFacts)


class ModelConfig(Struct, frozen=True, kw_only=True):
    """A served model: its name, its workers (or routers) by URL. `profile` and `context` win over what a worker says."""

    id: str
    urls: tuple[str, ...]
    profile: str | None = None
    context: int | None = None


class ServedModel:
    """Made without a worker being up; `facts` is None until one was probed."""

    def __init__(self, config: ModelConfig, *, timing: Timing, queue: QueueLimits, pace: Pace) -> None:
        if config.profile is not None and config.profile not in profiles():
            known = ", ".join(sorted(profiles()))
            raise ValueError(f"model {config.id}: no profile {config.profile!r}; there are {known}")
        self.config = config
        self.created = int(time.time())
        self.facts: Facts | None = None
        self.pool = Pool([Worker(Client(url, timing=timing), config.id) for url in config.urls], queue)
        self.monitor = Monitor(self.pool, self._greet, pace)

    @property
    def ready_facts(self) -> Facts:
        """Raises NoWorker where no worker was ever seen."""
        if self.facts is None:
            raise NoWorker(1.0)
        return self.facts

    async def tokenized(
        self, ask: Callable[[Tokenizer], Awaitable[_F]], *, key: bytes = b"", prefer: Worker | None = None
    ) -> tuple[_F, Worker]:
        """What `prefer`, else the worker that the key prefers, says of `ask`, and which worker said it.

        One that is lost is replaced once. Raises NoWorker, WorkerLost, InvalidForModel.
        """
        worker = prefer if prefer is not None and prefer.is_ready else self.pool.choose(key, 0)
        if worker is None:
            raise NoWorker(1.0)
        try:
            return await ask(self.tokenizer(worker)), worker
        except WorkerLost:
            other = self.pool.choose(key, 0, avoid=worker)
            if other is None:
                raise
            return await ask(self.tokenizer(other)), other

    def tokenizer(self, worker: Worker) -> Tokenizer:
        return Tokenizer(worker.client, self.config.id, context=self.facts.context if self.facts else _CONTEXT_UNKNOWN)

    def close(self) -> None:
        for worker in self.pool.workers:
            worker.client.close()

    # ------------------------------------------------------------------ a worker answers for the first time

    async def _greet(self, worker: Worker) -> str | None:
        """Learn about a worker, prove the profile on it. Why it may not serve, or None. Raises ConnectionFailed."""
        server = await _ask(worker.client, "/server_info", _server_facts) or ServerFacts()
        worker.has_priorities = server.enable_priority_scheduling
        if server.max_running_requests:
            worker.running_max = server.max_running_requests
        context = await self._context(worker, server)
        try:
            profile = await self._profile(worker, server)
            facts = await Probe(self.tokenizer(worker), self.config.id, profile).run(context)
        except EngineError as error:
            log.warning("worker %s failed its probe: %s", worker.url, error)
            return "does not tokenize"
        if self.facts is not None and _identity(facts) != _identity(self.facts):
            log.error("worker %s tokenizes otherwise than the workers before it", worker.url)
            if any(other.is_met for other in self.pool.workers if other is not worker):
                return "serves another model than the others"
        self.facts = facts
        worker.is_met = True
        log.info("worker %s: profile %s, context %s", worker.url, facts.profile.name, facts.context)
        return None

    async def _context(self, worker: Worker, server: ServerFacts) -> int:
        if self.config.context is not None:
            return self.config.context
        listed = await _ask(worker.client, "/v1/models", _models)
        told = [m.max_model_len for m in listed.data if m.max_model_len] if listed is not None else []
        return told[0] if told else server.context_length or _CONTEXT_UNKNOWN

    async def _profile(self, worker: Worker, server: ServerFacts) -> Profile:
        if self.config.profile is not None:
            return profiles()[self.config.profile]
        model = await _ask(worker.client, "/model_info", _model_facts) or ModelFacts()
        sample = Completion(request_id="sys_probe", model=self.config.id, messages=(Message(role="user", content="x"),))
        shown = await _rendered(self.tokenizer(worker), sample)
        told = " ".join((self.config.id, model.model_path, model.served_model_name, model.model_type or "", shown))
        return pick_profile(told, server.device)


async def _rendered(tokenizer: Tokenizer, sample: Completion) -> str:
    """A prompt as the model reads it (its system text may name the family); "" where the worker can't show it."""
    try:
        return await tokenizer.detokenize(await tokenizer.conversation(sample, {}), skip_special=False)
    except EngineError:
        return ""


def _identity(facts: Facts) -> Facts:
    """What must be equal for two workers to serve one model: all but how well each tokenizes at the moment."""
    return replace(facts, notes=())


async def _ask(client: Client, path: str, decoder: msgspec.json.Decoder[_F]) -> _F | None:
    """None where the worker (or the router before it) does not say. Raises ConnectionFailed."""
    reply = await client.request("GET", path, urgent=True)
    if reply.status != 200:
        return None
    try:
        return decoder.decode(reply.body)
    except msgspec.MsgspecError:
        return None
