"""Watches the workers of a pool: who answers, who came back as another, how loaded each is.

A probe costs a worker 4 ms (`/v1/models`); `/health_generate` would make it generate, and is never used.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from museway_engine.pool.pool import Pool
from museway_engine.pool.worker import Worker
from museway_engine.worker.connection import ConnectionFailed
from museway_engine.worker.shapes import WorkerLoads

log = logging.getLogger("museway.pool")

_loads = msgspec.json.Decoder(WorkerLoads)


class Pace(Struct, frozen=True, kw_only=True):
    """Seconds between two looks at a worker, and how long an answer may take; two silent ones make it not ready."""

    look_s: float = 0.5
    answer_s: float = 5.0
    misses_max: int = 2


class Monitor:
    """`greet` is asked when a worker answers for the first time and after each absence: it says why the worker may not
    serve, or None. It may raise ConnectionFailed."""

    def __init__(self, pool: Pool, greet: Callable[[Worker], Awaitable[str | None]], pace: Pace) -> None:
        self._pool = pool
        self._greet = greet
        self._pace = pace
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for worker in self._pool.workers:
                group.create_task(self._watch(worker))

    async def wait_ready(self, timeout_s: float) -> bool:
        """Whether a worker was ready within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self._pool.is_ready:
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            return False
        return True

    async def _watch(self, worker: Worker) -> None:
        misses = 0
        has_loads = True
        while True:
            reason = await self._look(worker)
            if reason is None:
                misses = 0
                self._set_up(worker)
                has_loads = has_loads and await self._read_load(worker)
                self._pool.wake()
            else:
                misses += 1
                if not worker.is_up or misses >= self._pace.misses_max or reason == "refused":
                    self._set_down(worker, reason)
                    has_loads = True
            await asyncio.sleep(self._pace.look_s * random.uniform(0.9, 1.1))

    async def _look(self, worker: Worker) -> str | None:
        """None where the worker may serve, else why not."""
        try:
            reply = await worker.client.request("GET", "/v1/models", within_s=self._pace.answer_s, urgent=True)
            if reply.status != 200:
                return f"answers status {reply.status}"
            return None if worker.is_up else await self._greet(worker)
        except ConnectionFailed as failure:
            return "refused" if failure.unanswered and not failure.timeout else "does not answer in time"

    async def _read_load(self, worker: Worker) -> bool:
        """Whether the worker has `/v1/loads` (a router may not)."""
        try:
            reply = await worker.client.request("GET", "/v1/loads", within_s=self._pace.answer_s, urgent=True)
            if reply.status != 200:
                return False
            loads = _loads.decode(reply.body).loads
        except ConnectionFailed:
            return True
        except msgspec.MsgspecError:
            return False
        if loads:
            worker.take_load(loads[0])
        return True

    def _set_up(self, worker: Worker) -> None:
        if not worker.is_up:
            log.info("worker %s is up", worker.url)
            worker.is_up, worker.reason = True, "ready"
            self._changed.set()

    def _set_down(self, worker: Worker, reason: str) -> None:
        if worker.is_up or worker.reason != reason:
            log.info("worker %s is down (%s)", worker.url, reason)
        worker.gone(reason)
