"""The scheduler: who runs, who waits, what is aborted; prefix cache, counters and the book are kept here."""

import asyncio
import heapq
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count

from msgspec import Struct, field

from doubles.fake_worker.book import Book, Entry
from doubles.fake_worker.generation import Generation, Made
from doubles.fake_worker.options import Options
from doubles.fake_worker.prefix_cache import PrefixCache
from doubles.fake_worker.refusal import QueueFull, Refusal
from doubles.fake_worker.script import Behaviour, Rules, ServerState
from doubles.fake_worker.vocabulary import SIZE


class Counters(Struct):
    """What `/metrics` tells; token counters rise when a request ends, also for aborted ones."""

    prompt: int = 0
    generation: int = 0
    cached: int = 0
    requests: int = 0
    aborted: int = 0


class _Place(Struct, order=True):
    """A place in the queue: higher priority first, then whoever came first."""

    rank: int
    order: int
    turn: asyncio.Future[None]
    granted: bool = False


class Run(Struct, kw_only=True):
    """One admitted request: its sequences, its behaviour, its line in the book."""

    entry: Entry
    prompt: list[int]
    behaviour: Behaviour
    priority: int
    generations: list[Generation]
    drop: Callable[[], None]
    """Resets the request's connection."""
    is_queued: bool = True
    abortable: bool = True
    """A request for several choices runs under hidden rids, which no abort by the client's rid meets."""
    wakers: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    def wake(self) -> None:
        for waker in self.wakers:
            if not waker.done():
                waker.set_result(None)


class Engine:
    """State of the whole worker. Suspends only in `running` (the queue) and `decode` (the pauses)."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.book = Book()
        self.rules = Rules()
        self.state = ServerState()
        self.counters = Counters()
        self.cache = PrefixCache(options.cache_tokens)
        self.live: dict[str, Run] = {}
        self.running = 0
        self._waiting: list[_Place] = []
        self._order = count()
        self._watchers: set[asyncio.Future[None]] = set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until it holds; asked again after every event and token."""
        while not holds():
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.add(watcher)
            try:
                await watcher
            finally:
                self._watchers.discard(watcher)

    def _note(self) -> None:
        """Something happened that `until` may wait for."""
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def check_rid(self, rid: str) -> None:
        """Raises Refusal for a rid that is live."""
        if rid in self.live:
            raise Refusal(400, f"Duplicate request ID detected: {rid}")

    def check_prompt(self, prompt: list[int]) -> None:
        """Raises Refusal for a prompt that does not fit. An id outside the vocabulary ends the process, as it ends SGLang."""
        if len(prompt) >= self.options.context:
            raise Refusal(
                400,
                f"The input ({len(prompt)} tokens) is longer than the model's context length "
                f"({self.options.context} tokens).",
            )
        if any(not 0 <= token < SIZE for token in prompt):
            os._exit(1)

    @asynccontextmanager
    async def admitted(self, run: Run) -> AsyncGenerator[None]:
        """The request's time in the worker: queued, then running; leaving it writes the book and the counters.

        Raises QueueFull without waiting where the queue is full.
        """
        entry = run.entry
        if run.behaviour.queue_full or (
            self.running >= self.options.max_running and self.waiting >= self.options.max_queued
        ):
            self.book.refused += 1
            raise QueueFull
        self.book.open(entry)
        self.live[entry.rid] = run
        self._note()
        try:
            await self._slot(run)
            try:
                if run.generations[0].is_aborting:
                    entry.prompt = 0  # a request that leaves the queue unserved reports no prompt either
                else:
                    run.is_queued = False
                    entry.cached = self.cache.match(run.prompt, entry.salt)
                yield
            finally:
                self._next()
        finally:
            del self.live[entry.rid]
            self._write_down(run)
            self._note()

    async def _slot(self, run: Run) -> None:
        if self.running < self.options.max_running:
            self.running += 1
            return
        place = _Place(-run.priority, next(self._order), asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiting, place)
        run.wakers.add(place.turn)
        try:
            await place.turn
        finally:
            run.wakers.discard(place.turn)
            if not place.granted:  # woken by an abort: it takes a slot for the moment of its end, `_next` gives it back
                if place in self._waiting:
                    self._waiting.remove(place)
                    heapq.heapify(self._waiting)
                self.running += 1

    def _next(self) -> None:
        self.running -= 1
        while self._waiting and self.running < self.options.max_running:
            place = heapq.heappop(self._waiting)
            if not place.turn.done():
                place.granted = True
                place.turn.set_result(None)
                self.running += 1

    def _write_down(self, run: Run) -> None:
        entry, made = run.entry, run.generations
        entry.ended = time.monotonic()
        entry.completion = sum(g.completion for g in made)
        entry.reasoning = sum(g.reasoning for g in made)
        entry.text = "\x1e".join(g.text for g in made)
        entry.finish = next((g.finish.reason for g in made if g.finish), None)
        for generation in made:
            self.cache.insert(run.prompt + generation.ids, entry.salt)
        self.counters.requests += 1
        self.counters.prompt += entry.prompt
        self.counters.generation += entry.completion
        self.counters.cached += entry.cached
        self.counters.aborted += entry.finish == "abort"

    def abort(self, rid: str, *, everything: bool = False) -> None:
        """End a live request and all whose rid begins with its rid; a rid that is not live itself ends nothing."""
        if not everything and rid not in self.live:
            return
        now = time.monotonic()
        for name, run in list(self.live.items()):
            if (everything or name.startswith(rid)) and run.abortable and not run.behaviour.abort_deaf:
                run.entry.aborted = run.entry.aborted or now
                self._end_early(run)

    def left(self, run: Run) -> None:
        """The peer closed the connection of a request."""
        if run.entry.ended is None and run.entry.disconnected is None:
            run.entry.disconnected = time.monotonic()
            self._end_early(run)

    def _end_early(self, run: Run) -> None:
        steps = run.behaviour.abort_steps
        for generation in run.generations:
            generation.abort(0 if run.is_queued else self.options.abort_steps if steps is None else steps)
        run.wake()
        self._note()

    async def decode(self, run: Run, generation: Generation, show: Callable[[Made], None]) -> None:
        """Make tokens until the sequence ends; `show` gets each one. What the script says goes wrong, does."""
        pause = self.options.delay_ms if run.behaviour.delay_ms is None else run.behaviour.delay_ms
        uncached = len(run.prompt) - run.entry.cached
        first = run.behaviour.first_delay_ms + self.options.prefill_us * uncached / 1000
        await self._pause(run, generation, (first + pause) / 1000)
        while generation.finish is None:
            await self._fault(run, generation)
            if generation.finish is not None:
                break
            if run.entry.first_token is None:
                run.entry.first_token = time.monotonic()
                self.cache.insert(run.prompt, run.entry.salt)
            made = generation.advance()
            run.entry.completion += 1
            show(made)
            self._note()
            if generation.finish is None:
                await self._pause(run, generation, pause / 1000)

    async def _fault(self, run: Run, generation: Generation) -> None:
        at, behaviour = generation.completion, run.behaviour
        if behaviour.die_after is not None and at >= behaviour.die_after:
            os._exit(1)
        if behaviour.drop_after is not None and at >= behaviour.drop_after:
            run.entry.disconnected = time.monotonic()
            run.drop()
            for each in run.generations:
                each.abort(0)
        if behaviour.stall_after is not None and at >= behaviour.stall_after and not generation.is_aborting:
            await self._pause(run, generation, None)

    async def _pause(self, run: Run, generation: Generation, seconds: float | None) -> None:
        """Wait, or until the request is ended early; None waits for that alone."""
        if seconds == 0 or generation.is_aborting:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        waker: asyncio.Future[None] = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _done, waker)
        run.wakers.add(waker)
        try:
            await waker
        finally:
            run.wakers.discard(waker)
            if timer is not None:
                timer.cancel()


def _done(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)
