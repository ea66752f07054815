"""One engine call, from permission to the last count: the only way in which anything here makes a worker generate (I9)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from museway_engine.allowance import Allowance, Blame, CallMeter, CallSpec, Counts, Outcome
from museway_engine.errors import DeadlinePassed, EngineError, NoWorker, WorkerLost, WorkerTimeout
from museway_engine.lifetimes import Crew, shielded
from museway_engine.pool.pool import Lease, Pool, Wish
from museway_engine.pool.worker import Worker
from museway_engine.rid import next_attempt
from museway_engine.worker.abort import keep_aborting
from museway_engine.worker.client import Exchange
from museway_engine.worker.connection import ConnectionFailed
from museway_engine.worker.errors import WorkerBusy, is_workers_fault, read_failure, translate
from museway_engine.worker.sse import EventTooLong
from museway_engine.worker.stream import Malformed
from museway_engine.worker.tally import CountsAbsurd, Failure, Tally

log = logging.getLogger("museway.worker")

T = TypeVar("T")
_CLOSE_S = 15.0
_ERROR_BYTES_MAX = 65_536


class Reader(Protocol[T]):
    """Turns the bytes of an answer into items. `feed` and `end` raise Malformed."""

    @property
    def tally(self) -> Tally: ...

    def feed(self, data: bytes) -> list[T]: ...

    def end(self) -> list[T]: ...


class Order(Struct, Generic[T], frozen=True, kw_only=True):
    """What to ask a worker. `body` makes the request of the worker, the rid and the maximum that were granted."""

    path: str
    body: Callable[[Worker, str, int], bytes]
    reader: Callable[[str], Reader[T]]


class Call(Generic[T]):
    """An async context manager and, inside, an async iterator of batches (never empty).

    Entering it reserves the call, places it, sends it and waits for the first items; a worker that is lost or full before
    them is replaced once, by a new attempt with its own rid and its own meter. When the iteration has ended, or the
    context was left, the meter is closed, exactly once. Leaving early aborts by rid at once, reads on to the last chunk
    (2 s at most) for its counts, and only then drops the connection; `blame` says to whom that end is put down.

    At `deadline` (the loop's clock) a call that has begun is stopped, and `is_late` says so.

    Raises AllowanceRefused, NoWorker, InvalidForModel, WorkerLost, DeadlinePassed (nothing had begun). Not for use twice.
    """

    def __init__(
        self,
        pool: Pool,
        allowance: Allowance,
        spec: CallSpec,
        order: Order[T],
        wish: Wish,
        *,
        context: int,
        deadline: float | None,
    ) -> None:
        self._pool = pool
        self._allowance = allowance
        self._order = order
        self._wish = wish
        self._worker = wish.pinned
        self._context = context
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._reader = order.reader(spec.rid)
        self._meter: CallMeter | None = None
        self._lease: Lease | None = None
        self._exchange: Exchange | None = None
        self._pressing = Crew()
        self._first: list[T] = []
        self._told_prompt = False
        self._has_begun = False
        self._body_ended = False
        self._stopped = False
        self._was_stale = False
        self._error: EngineError | None = None
        self.spec = spec
        self.blame = Blame.CLIENT
        self.is_out_of_cover = False
        """The hold of an internal call was used up; the call was stopped for it."""
        self.is_late = False

    @property
    def tally(self) -> Tally:
        return self._reader.tally

    @property
    def worker(self) -> Worker | None:
        """Where it runs or ran; None before it was placed, where it was not pinned."""
        return self._worker

    # ------------------------------------------------------------------ begin

    async def __aenter__(self) -> Call[T]:
        if self._deadline is None:
            await self._begin_somewhere()
            return self
        limit = asyncio.timeout_at(self._deadline)
        try:
            async with limit:
                await self._begin_somewhere()
        except TimeoutError as error:
            if limit.expired():
                raise DeadlinePassed from error
            raise
        self._timer = asyncio.get_running_loop().call_at(self._deadline, self._run_late)
        return self

    async def _begin_somewhere(self) -> None:
        try:
            await self._begin()
        except (WorkerLost, NoWorker) as error:
            if not self._may_retry(error):
                raise
            await self._begin()

    def _run_late(self) -> None:
        self.is_late = True
        self.stop(Blame.CLIENT)

    def _may_retry(self, error: WorkerLost | NoWorker) -> bool:
        """Another worker may be asked, or, where there is none and only a kept connection had died, the same again.

        Prepares the second attempt.
        """
        failed = self._worker
        if failed is None or (isinstance(error, NoWorker) and not isinstance(error, WorkerBusy)):
            return False
        if any(worker.is_ready and worker is not failed for worker in self._pool.workers):
            self._second_attempt(replace(self._wish, pinned=None, avoid=(*self._wish.avoid, failed)))
            return True
        if self._was_stale:
            self._second_attempt(replace(self._wish, pinned=failed))
        return self._was_stale

    def _second_attempt(self, wish: Wish) -> None:
        self._wish = wish
        self._worker = wish.pinned
        self.spec = replace(self.spec, rid=next_attempt(self.spec.rid))
        self._reader = self._order.reader(self.spec.rid)
        self._told_prompt = self._body_ended = False
        self._exchange = self._lease = self._error = None

    async def _begin(self) -> None:
        self._meter = await self._allowance.open(self.spec)
        try:
            self._lease = await self._pool.acquire(self._wish)
            self._worker = self._lease.worker
            await self._send(self._worker, self._meter)
            self._first = await self._advance()
            self._has_begun = True
        finally:
            if not self._has_begun:
                await self._end()

    async def _send(self, worker: Worker, meter: CallMeter) -> None:
        body = self._order.body(worker, self.spec.rid, meter.max_tokens)
        meter.dispatched(worker.url)
        try:
            self._exchange = await worker.client.open(self._order.path, body)
            status = await self._exchange.head()
            if status != 200:
                raise self._failed(read_failure(status, await _short_body(self._exchange)))
        except ConnectionFailed as failure:
            if self._exchange is None and not failure.timeout:
                worker.gone()
            self._was_stale = failure.stale
            raise self._lost(failure.cause, timeout=failure.timeout) from failure

    # ------------------------------------------------------------------ go on

    def __aiter__(self) -> Call[T]:
        return self

    async def __anext__(self) -> list[T]:
        items = await self.batch()
        if items:
            return items
        raise StopAsyncIteration

    async def batch(self) -> list[T]:
        """What the iteration gives next; [] at its end, when the meter is closed. Raises what the iteration raises."""
        items, self._first = self._first, []
        if not items and self._meter is not None:
            items = await self._advance()
        if not items:
            await self._end()
        return items

    async def _advance(self) -> list[T]:
        """The next items; [] where the answer is complete. Raises WorkerLost, or what the worker refused with."""
        reader, exchange = self._reader, self._exchange
        assert exchange is not None, "nothing was sent"
        tally = reader.tally
        try:
            while not self._body_ended:
                data = await exchange.read()
                self._body_ended = not data
                items = reader.feed(data) if data else reader.end()
                self._report(tally)
                if tally.failure is not None and not self._stopped:
                    raise self._failed(tally.failure)
                if items:
                    return items
        except ConnectionFailed as failure:
            if not self._stopped:
                raise self._lost(failure.cause, timeout=failure.timeout) from failure
        except (Malformed, EventTooLong, CountsAbsurd) as broken:
            raise self._lost("malformed answer") from broken
        if not self._stopped and (tally.finish is None or tally.finish == "abort"):
            raise self._lost("aborted by the worker" if tally.finish else "answer cut short")
        return []

    def _report(self, tally: Tally) -> None:
        meter = self._meter
        if meter is None:
            return
        if not self._told_prompt and tally.prompt >= 0:
            self._told_prompt = True
            meter.prompt(tally.prompt, tally.cached)
        if self.spec.internal and tally.completion >= 0 and not self._stopped:
            reasoning = min(tally.reasoning, tally.completion)
            if not meter.count(reasoning, tally.completion - reasoning):
                self.is_out_of_cover = True
                self.stop(Blame.CLIENT)

    def stop(self, blame: Blame) -> None:
        """Abort now; the iteration goes on to the last chunk (2 s at most) and then ends without an error.

        Does nothing before the call was sent, or a second time.
        """
        if self._stopped or self._exchange is None or self._lease is None:
            return
        self._stopped = True
        self.blame = blame
        self._pressing.start(self._press(self._exchange, self._lease.worker))

    async def _press(self, exchange: Exchange, worker: Worker) -> None:
        """Abort by rid until the answer has ended; where that fails or takes too long, cut the connection."""
        try:
            async with asyncio.timeout(worker.client.timing.drain_s):
                await keep_aborting(worker.client, self.spec.rid)
        except TimeoutError:
            log.warning("worker %s did not end %s in time", worker.url, self.spec.rid)
        exchange.cut("stopped")

    # ------------------------------------------------------------------ end

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        meter, self._meter = self._meter, None
        if meter is None:
            return
        if self._body_ended and self._error is None and not self._stopped and self._exchange is not None:
            # The common end needs no shield: all of it has happened before it waits for the first time.
            self._let_go()
            await meter.close(*self._verdict(was_early=False))
        else:
            await shielded(self._close(meter), within_s=_CLOSE_S)

    async def _close(self, meter: CallMeter) -> None:
        exchange = self._exchange
        was_early = not self._body_ended and self._error is None and exchange is not None
        if exchange is not None:
            if was_early:
                await self._drain(exchange)
            await self._pressing.disband()
        self._let_go()
        await meter.close(*self._verdict(was_early=was_early or self._stopped))

    def _let_go(self) -> None:
        """Give back the connection and the place at the worker."""
        if self._timer is not None:
            self._timer.cancel()
        if self._exchange is not None:
            self._exchange.close()
        if self._lease is not None:
            self._judge(self._lease.worker)
            self._lease.release()

    async def _drain(self, exchange: Exchange) -> None:
        self.stop(self.blame)
        with contextlib.suppress(ConnectionFailed, Malformed, EventTooLong, CountsAbsurd):
            await exchange.head()
            while data := await exchange.read():
                self._reader.feed(data)
            self._reader.end()

    def _judge(self, worker: Worker) -> None:
        if self._error is None:
            worker.breaker.succeeded()
        elif is_workers_fault(self._error):
            worker.breaker.failed()

    def _verdict(self, *, was_early: bool) -> tuple[Outcome, Counts | None, Blame]:
        tally, error = self.tally, self._error
        if error is not None and not self._has_begun:
            at_fault = isinstance(error, WorkerLost | NoWorker)
            return Outcome.FAILED, None, Blame.WORKER if at_fault else Blame.NONE
        blame = Blame.WORKER if error is not None else self.blame if was_early else Blame.NONE
        if tally.is_final and error is None:
            return Outcome.COMPLETE, tally.counts, blame
        if self._exchange is None:
            return Outcome.FAILED, None, Blame.NONE
        if tally.counts is None and tally.spoke:
            return Outcome.UNKNOWN, None, blame
        return Outcome.INTERRUPTED, None, blame  # what was made after the last chunk, nobody saw

    # ------------------------------------------------------------------ errors

    @property
    def _worker_url(self) -> str:
        return self._lease.worker.url if self._lease is not None else ""

    def _failed(self, failure: Failure) -> EngineError:
        self._error = translate(
            failure, worker=self._worker_url, rid=self.spec.rid, context=self._context, delivered=self._has_begun
        )
        return self._error

    def _lost(self, cause: str, *, timeout: bool = False) -> WorkerLost:
        kind = WorkerTimeout if timeout else WorkerLost
        lost = kind(self._worker_url, delivered=self._has_begun, cause=cause)
        self._error = lost
        return lost


async def _short_body(exchange: Exchange) -> bytes:
    body = b""
    while len(body) < _ERROR_BYTES_MAX and (piece := await exchange.read()):
        body += piece
    return body
