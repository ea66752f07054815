"""The workers of one model: who gets a call, and who waits for one.

Decides without an await (httpcore's rule): a call is placed synchronously where a worker has room, else it waits in one
bounded queue, in the order of priority and arrival.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Sequence
from itertools import count

from msgspec import Struct

from museway_engine.errors import NoWorker
from museway_engine.pool.affinity import rank
from museway_engine.pool.worker import Worker

_BOUND = 1.5
_SLACK_SHARE = 4
_SLACK_TOKENS = 8_192


class QueueLimits(Struct, frozen=True, kw_only=True):
    """`waiting_max` calls may wait for a worker, each at most `wait_s` seconds."""

    waiting_max: int = 512
    wait_s: float = 60.0


class Lease:
    """A call's place on a worker. `release` it once; more often does nothing."""

    __slots__ = ("_pool", "_released", "tokens", "worker")

    def __init__(self, pool: Pool, worker: Worker, tokens: int) -> None:
        self._pool = pool
        self._released = False
        self.worker = worker
        self.tokens = tokens
        worker.in_flight += 1
        worker.tokens += tokens

    def release(self) -> None:
        if not self._released:
            self._released = True
            self.worker.in_flight -= 1
            self.worker.tokens -= self.tokens
            self._pool.wake()


class Wish(Struct, frozen=True, kw_only=True, eq=False):
    """A call that wants a worker. `tokens` is its estimated work; `pinned` wins over the key while that worker is ready.

    `avoid` are workers that just failed it. `urgent` calls (continuations) go before others.
    """

    key: bytes
    tokens: int
    pinned: Worker | None = None
    avoid: Collection[Worker] = ()
    urgent: bool = False


class Pool:
    def __init__(self, workers: Sequence[Worker], limits: QueueLimits) -> None:
        self.workers = workers
        self._limits = limits
        self._order = count()
        self._waiting: list[tuple[bool, int, Wish, asyncio.Future[Lease]]] = []

    @property
    def is_ready(self) -> bool:
        return any(worker.is_ready for worker in self.workers)

    async def acquire(self, wish: Wish) -> Lease:
        """A place on a worker; suspends only where none has room. Raises NoWorker."""
        if not self._waiting or wish.urgent:
            lease = self._place(wish)
            if lease is not None:
                return lease
        if not any(worker.is_ready and worker not in wish.avoid for worker in self.workers):
            raise NoWorker(1.0)
        if len(self._waiting) >= self._limits.waiting_max:
            raise NoWorker(self._limits.wait_s / 4, queue_full=True)
        return await self._wait(wish)

    async def _wait(self, wish: Wish) -> Lease:
        turn: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not wish.urgent, next(self._order), wish, turn))
        try:
            async with asyncio.timeout(self._limits.wait_s):
                return await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                turn.result().release()  # the place came in the moment in which the wait was given up
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise NoWorker(self._limits.wait_s / 4, queue_full=True) from error
            raise

    def wake(self) -> None:
        """Place who can be placed, in order; called whenever a worker gained room or became ready."""
        if not self._waiting:
            return
        kept: list[tuple[bool, int, Wish, asyncio.Future[Lease]]] = []
        while self._waiting and any(worker.is_ready and worker.has_room for worker in self.workers):
            entry = heapq.heappop(self._waiting)
            _, _, wish, turn = entry
            if turn.done():
                continue
            lease = self._place(wish)
            if lease is None:
                kept.append(entry)  # it waits for one worker that has no room, others need not
            else:
                turn.set_result(lease)
        for entry in kept:
            heapq.heappush(self._waiting, entry)

    def choose(self, key: bytes, tokens: int, *, avoid: Worker | None = None) -> Worker | None:
        """The worker that a group of calls should go to together; None where none is ready but `avoid`."""
        ready = [worker for worker in self.workers if worker.is_ready and worker is not avoid]
        return self._prefer(rank(key, ready), tokens) if ready else None

    def _place(self, wish: Wish) -> Lease | None:
        if len(self.workers) == 1:  # nothing to choose
            only = self.workers[0]
            return (
                Lease(self, only, wish.tokens) if only.is_ready and only.has_room and only not in wish.avoid else None
            )
        if wish.pinned is not None and wish.pinned.is_ready and wish.pinned not in wish.avoid:
            return Lease(self, wish.pinned, wish.tokens) if wish.pinned.has_room else None
        free = [w for w in self.workers if w.is_ready and w.has_room and w not in wish.avoid]
        if not free:
            return None
        return Lease(self, self._prefer(rank(wish.key, free), wish.tokens), wish.tokens)

    def _prefer(self, ranked: Sequence[Worker], tokens: int) -> Worker:
        """The first in rank whose load stays within 1.5 × mean; below a quarter of its KV pool nobody is loaded."""
        if len(ranked) == 1:
            return ranked[0]
        mean = (sum(worker.load for worker in ranked) + tokens) / len(ranked)
        for worker in ranked:
            slack = worker.kv_tokens // _SLACK_SHARE or _SLACK_TOKENS
            if not worker.is_cramped and worker.load + tokens <= max(_BOUND * mean, slack):
                return worker
        return min(ranked, key=lambda worker: worker.load)
