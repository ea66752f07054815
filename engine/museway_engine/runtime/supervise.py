"""Keeps workers alive: starts them, notices death and hanging, starts them again, stops them in the end."""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec

from museway_engine.runtime.health import health
from museway_engine.runtime.launch import PortTaken, StartTimeout, Worker, WorkerDied
from museway_engine.runtime.progress import Progress, Silent


class State(enum.StrEnum):
    """starting → ready ⇄ unhealthy → waiting → starting …; `failed` and `stopped` are ends."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"  # runs, but does not answer well; restarted if that lasts
    WAITING = "waiting"  # is gone; started again after a pause
    FAILED = "failed"  # did not come up the first time: nothing that a restart would mend
    STOPPED = "stopped"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's new state. `reason` is one line for a log; `restarts` counts starts after the first."""

    url: str
    state: State
    reason: str
    restarts: int


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Pauses between restarts, in seconds: `first_s`, doubling to `longest_s`, less a random part of up to `jitter`.

    The jitter keeps workers that died together from loading their models together. A worker that was ready for
    `steady_s` begins again at `first_s`.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    jitter: float = 0.5
    steady_s: float = 60.0

    def pause_s(self, failures: int, chance: float) -> float:
        """The pause after `failures` (at least 1) in a row; `chance` from 0 to 1."""
        return min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30)) * (1.0 - self.jitter * chance)


class Probing(msgspec.Struct, frozen=True, kw_only=True):
    """How health is asked. A worker is restarted after `misses_max` bad answers in a row.

    `timeout_s` is beyond the 20 s within which SGLang itself gives up; a long prefill on a CPU is silent for seconds.
    """

    every_s: float = 5.0
    timeout_s: float = 25.0
    misses_max: int = 3
    start_timeout_s: float = 600.0


def _ignore(_: Change) -> None: ...


class Supervisor:
    """`async with Supervisor([...]) as supervisor: await supervisor.ready()`.

    Entering starts all workers at once and returns; leaving stops them all and returns when nothing of them is left. A
    worker that does not come up the first time is FAILED and left alone (its flags, model or memory are wrong, and
    `ready` says so); one that was ready once is restarted for ever. Does not choose between workers or drain them.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        on_change: Callable[[Change], None] = _ignore,
        progress: Progress | None = None,
        backoff: Backoff | None = None,
        probing: Probing | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`on_change` is called in the event loop and must not block; what it raises ends the supervisor.

        `progress` follows the first start of the first worker only: two at once would interleave.
        """
        assert workers, "nothing to supervise"
        self._workers = tuple(workers)
        self._on_change, self._progress, self._chance = on_change, progress or Silent(), chance
        self._backoff, self._probing = backoff or Backoff(), probing or Probing()
        self._states = {worker.url: State.STOPPED for worker in workers}
        self._restarts = dict.fromkeys(self._states, 0)
        assert len(self._states) == len(self._workers), "two workers on one address"
        self._first_ready: dict[str, asyncio.Future[None]] = {}
        self._tasks = asyncio.TaskGroup()
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(worker.url for worker in self._workers)

    @property
    def states(self) -> dict[str, State]:
        """By URL; a copy."""
        return dict(self._states)

    async def ready(self) -> None:
        """Wait until every worker has been ready once. Raises what kept the first failing one from it:
        WorkerDied, StartTimeout or PortTaken."""
        await asyncio.gather(*(asyncio.shield(future) for future in self._first_ready.values()))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._first_ready = {url: loop.create_future() for url in self.urls}
        await self._tasks.__aenter__()
        self._keepers = [self._tasks.create_task(self._keep(worker), name=worker.url) for worker in self._workers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        if isinstance(error, Exception):
            kind = error = trace = None  # it goes on as it is: the group would wrap it in one of its own
        await self._tasks.__aexit__(kind, error, trace)
        for future in self._first_ready.values():
            if future.done() and not future.cancelled():
                future.exception()  # seen, even if nobody waited in `ready`
            future.cancel()

    async def _keep(self, worker: Worker) -> None:
        """One worker's life, until it has failed or this is cancelled."""
        failures = 0
        progress: Progress = self._progress if worker is self._workers[0] else Silent()
        try:
            while True:
                self._enter(worker, State.STARTING, "")
                try:
                    worker.start()
                    await worker.wait_ready(progress, timeout_s=self._probing.start_timeout_s)
                except (WorkerDied, StartTimeout, PortTaken) as error:
                    if not self._first_ready[worker.url].done():
                        await worker.stop()
                        self._enter(worker, State.FAILED, str(error))
                        self._first_ready[worker.url].set_exception(error)
                        return
                    reason = str(error)
                else:
                    began, progress = time.monotonic(), Silent()
                    self._enter(worker, State.READY, "")
                    if not self._first_ready[worker.url].done():
                        self._first_ready[worker.url].set_result(None)
                    reason = await self._until_lost(worker)
                    if time.monotonic() - began >= self._backoff.steady_s:
                        failures = 0
                await worker.stop()
                failures += 1
                self._enter(worker, State.WAITING, reason)
                await asyncio.sleep(self._backoff.pause_s(failures, self._chance()))
                self._restarts[worker.url] += 1
        finally:
            await worker.stop()
            if self._states[worker.url] is not State.FAILED:
                self._enter(worker, State.STOPPED, "")

    async def _until_lost(self, worker: Worker) -> str:
        """Ask for its health until it is dead or has missed too often; says which."""
        missed = 0
        while True:
            try:
                async with asyncio.timeout(self._probing.every_s):
                    return f"ended with status {await worker.exited()}"
            except TimeoutError:
                pass
            status = await health(worker.host, worker.port, timeout_s=self._probing.timeout_s)
            if not worker.running:
                continue
            if status == 200:
                missed = 0
                if self._states[worker.url] is State.UNHEALTHY:
                    self._enter(worker, State.READY, "answers again")
                continue
            missed += 1
            reason = "does not answer" if status is None else f"/health says {status}"
            if missed >= self._probing.misses_max:
                return f"{reason}, {missed} times in a row"
            self._enter(worker, State.UNHEALTHY, reason)

    def _enter(self, worker: Worker, state: State, reason: str) -> None:
        if self._states[worker.url] is state:
            return
        self._states[worker.url] = state
        self._on_change(Change(url=worker.url, state=state, reason=reason, restarts=self._restarts[worker.url]))
