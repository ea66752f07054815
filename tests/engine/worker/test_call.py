"""One engine call against a scripted worker: begun, tried again, stopped, and closed exactly once whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from asking.allowance import Book, Closed
from asking.ask import ask, in_rank, opened, run, until
from doubles.worker_process import Behaviour, FakeWorker, Options
from museway_engine.allowance import AllowanceRefused, Blame, Counts, Outcome
from museway_engine.completion import Completion
from museway_engine.engine import Engine
from museway_engine.errors import (
    ContextTooLong,
    DeadlinePassed,
    EngineError,
    InvalidForModel,
    NoWorker,
    WorkerLost,
    WorkerTimeout,
)
from museway_engine.events import UNKNOWN, AnyEvent, Output
from museway_engine.modes.mode import Batches, Running
from museway_engine.worker.client import Timing

pytestmark = pytest.mark.anyio

_LONG = Behaviour(tokens=500, delay_ms=5)


@asynccontextmanager
async def two_workers() -> AsyncGenerator[tuple[FakeWorker, FakeWorker, Engine]]:
    async with FakeWorker() as one, FakeWorker() as other, opened(one, other) as engine:
        yield one, other, engine


class Begun:
    """A run of which some tokens have come."""

    def __init__(self, context: Running, batches: Batches, events: list[AnyEvent]) -> None:
        self._context = context
        self._batches = batches
        self.events = events

    async def leave(self) -> None:
        await self._context.__aexit__(None, None, None)

    async def rest(self) -> None:
        """Run to the end, as `async with` would."""
        try:
            async for batch in self._batches:
                self.events += batch
        except EngineError as error:
            await self._context.__aexit__(type(error), error, error.__traceback__)
            raise
        await self.leave()


async def begin(engine: Engine, completion: Completion, book: Book, tokens: int = 3) -> Begun:
    context = engine.run(engine.prepare(completion), allowance=book, cache_salt="s", affinity_salt="s")
    batches = await context.__aenter__()
    events: list[AnyEvent] = []
    while len(events) < tokens:
        events += await anext(batches)
    return Begun(context, batches, events)


async def test_counts_are_the_workers_book(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        for stream in (True, False):
            book = Book()
            heard = await run(engine, ask(stream=stream), book)
            (call,), entry = book.calls, fake_worker.book()[-1]
            assert call.end.outcome is Outcome.COMPLETE
            assert call.end.blame is Blame.NONE
            assert call.end.counts == Counts(
                entry.prompt, entry.cached, entry.reasoning, entry.completion - entry.reasoning
            )
            assert call.prompts == [(entry.prompt, entry.cached)]
            assert heard.output == entry.text
            assert call.worker == fake_worker.url


async def test_the_worker_is_told_what_is_ours(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        book = Book(grant=lambda spec: 7)
        await run(engine, ask(), book, salt="tenant")
        body = next(seen.body for seen in reversed(fake_worker.requests()) if seen.path == "/v1/chat/completions")
        assert body["rid"] == book.calls[0].spec.rid
        assert body["cache_salt"] == "tenant"
        assert body["max_completion_tokens"] == 7
        assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        assert fake_worker.book()[-1].completion == 7


@pytest.mark.parametrize("behaviour", [Behaviour(split_bytes=True), Behaviour(events_per_write=9, tokens_per_chunk=3)])
async def test_streams_cut_and_packed_anyhow(fake_worker: FakeWorker, behaviour: Behaviour) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(behaviour)
        book = Book()
        heard = await run(engine, ask(), book)
        entry = fake_worker.book()[-1]
        assert heard.output == entry.text
        assert book.calls[0].produced == entry.completion
        counts = [e.n for e in heard.events if isinstance(e, Output)]
        assert counts == sorted(counts)
        assert counts[-1] == entry.sent


async def test_the_end_token_is_only_in_the_final_count(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(text="Hello"))
        book = Book()
        heard = await run(engine, ask(), book)
        last = [e.n for e in heard.events if isinstance(e, Output)][-1]
        assert book.calls[0].produced == last + 1
        assert heard.output == "Hello"
        assert heard.finishes == {0: "stop"}


# ---------------------------------------------------------------------- counts that are missing


async def test_no_counts_at_all_is_unknown(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(usage=False))
        book = Book()
        heard = await run(engine, ask(), book)
        assert {e.n for e in heard.events if isinstance(e, Output)} == {UNKNOWN}
        assert book.calls[0].end.outcome is Outcome.UNKNOWN
        assert book.calls[0].end.counts is None


async def test_no_final_count_is_interrupted_not_complete(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(final_usage=False))
        book = Book()
        await run(engine, ask(), book)
        assert book.calls[0].end.outcome is Outcome.INTERRUPTED


async def test_a_stream_without_its_last_line_is_whole(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(done=False))
        book = Book()
        heard = await run(engine, ask(), book)
        assert heard.done
        assert book.calls[0].end.outcome is Outcome.COMPLETE


# ---------------------------------------------------------------------- the client leaves


async def test_leaving_aborts_by_rid_and_takes_the_last_count(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(_LONG)
        book = Book()
        begun = await begin(engine, ask(max_tokens=500), book)
        left = time.monotonic()
        await begun.leave()
        assert time.monotonic() - left < 1.0
        (entry,) = fake_worker.wait_idle()
        assert entry.aborted is not None
        assert entry.aborted - left < 0.25
        assert entry.disconnected is None  # aborted, not hung up on
        assert book.calls[0].end == _closed(Outcome.COMPLETE, Counts(entry.prompt, entry.cached, 0, entry.completion))
        assert engine.workers()[0].in_flight == 0


def _closed(outcome: Outcome, counts: Counts | None, blame: Blame = Blame.CLIENT) -> Closed:
    return Closed(outcome, counts, blame)


async def test_leaving_before_the_first_token(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(first_delay_ms=60_000))
        for stream in (True, False):
            book = Book()
            task = asyncio.create_task(run(engine, ask(stream=stream), book))
            await _dispatched(book)
            await asyncio.to_thread(fake_worker.wait_for, book.calls[0].spec.rid)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            book.check_closed()
            assert book.calls[0].end.blame is Blame.CLIENT
            entry = fake_worker.wait_idle()[-1]
            assert entry.aborted is not None
            assert entry.completion == (book.calls[0].produced if book.calls[0].end.counts else 0)
        assert engine.workers()[0].in_flight == 0


async def _dispatched(book: Book) -> None:
    await until(lambda: bool(book.calls) and book.calls[-1].worker is not None)


async def test_a_worker_deaf_to_aborts_is_hung_up_on_after_two_seconds(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker, timing=Timing(drain_s=0.3)) as engine:
        fake_worker.script(Behaviour(tokens=2000, delay_ms=5, abort_deaf=True))
        book = Book()
        begun = await begin(engine, ask(max_tokens=2000), book)
        await begun.leave()
        (entry,) = fake_worker.wait_idle()
        assert entry.disconnected is not None
        assert book.calls[0].end == _closed(Outcome.INTERRUPTED, None)


async def test_behind_a_router_the_connection_is_dropped() -> None:
    async with FakeWorker(Options(router=True)) as worker, opened(worker) as engine:
        worker.script(_LONG)
        book = Book()
        begun = await begin(engine, ask(max_tokens=500), book)
        left = time.monotonic()
        await begun.leave()
        (entry,) = worker.wait_idle()
        assert entry.disconnected is not None
        assert entry.disconnected - left < 0.5
        assert book.calls[0].end == _closed(Outcome.INTERRUPTED, None)


# ---------------------------------------------------------------------- the worker fails


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(drop_after=0),
        Behaviour(die_after=0),
        Behaviour(status=500),
        Behaviour(status=502),
        Behaviour(queue_full=True),
        Behaviour(error_event_after=1, events_per_write=9),
        Behaviour(malformed_after=1, events_per_write=9),
    ],
    ids=["dropped", "died", "500", "502", "full", "error", "malformed"],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_lost_before_the_first_token_is_tried_once_elsewhere(behaviour: Behaviour, stream: bool) -> None:
    if not stream and (behaviour.error_event_after is not None or behaviour.malformed_after is not None):
        return  # those two are of streams
    async with two_workers() as (one, other, engine):
        first, second = (one, other) if in_rank(engine, ask("the same words"))[0] == one.url else (other, one)
        first.script(behaviour)
        book = Book()
        heard = await run(engine, ask("the same words", stream=stream), book)
        assert heard.done.stop_reason in ("complete", "length")
        failed, good = book.calls
        assert failed.end == _closed(Outcome.FAILED, None, Blame.WORKER)
        assert (failed.worker, good.worker) == (first.url, second.url)
        assert good.spec.rid == failed.spec.rid[:-1] + "1"
        assert good.end.outcome is Outcome.COMPLETE


async def test_lost_everywhere_is_an_error_and_two_records() -> None:
    async with two_workers() as (one, other, engine):
        for worker in (one, other):
            worker.script(Behaviour(drop_after=0))
        book = Book()
        with pytest.raises(WorkerLost) as caught:
            await run(engine, ask(), book)
        assert not caught.value.delivered
        assert [call.end for call in book.calls] == [_closed(Outcome.FAILED, None, Blame.WORKER)] * 2


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(tokens=30, delay_ms=20, drop_after=3),
        Behaviour(tokens=30, delay_ms=20, die_after=3),
        Behaviour(tokens=30, delay_ms=20, error_event_after=3),
        Behaviour(tokens=30, delay_ms=20, malformed_after=3),
    ],
    ids=["dropped", "died", "error", "malformed"],
)
async def test_lost_after_delivery_is_never_tried_again(behaviour: Behaviour) -> None:
    async with two_workers() as (one, other, engine):
        for worker in (one, other):
            worker.script(behaviour, times=1)
        book = Book()
        begun = await begin(engine, ask(), book, tokens=1)
        with pytest.raises(WorkerLost) as caught:
            await begun.rest()
        assert caught.value.delivered
        (call,) = book.calls
        assert call.end.outcome is Outcome.INTERRUPTED
        assert call.end.blame is Blame.WORKER


async def test_a_worker_that_stalls_is_timed_out(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker, timing=Timing(first_byte_s=0.3, idle_s=0.3)) as engine:
        fake_worker.script(Behaviour(stall_after=2))
        book = Book()
        with pytest.raises(WorkerTimeout) as caught:
            await run(engine, ask(), book)
        assert caught.value.delivered
        assert book.calls[0].end.blame is Blame.WORKER


# ---------------------------------------------------------------------- refusals


async def test_a_clients_mistake_is_told_in_our_words_and_costs_nothing(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(status=400, message='bad: File "/opt/sglang/x.py", line 3'))
        for _ in range(5):  # more than opens a breaker
            book = Book()
            with pytest.raises(InvalidForModel) as caught:
                await run(engine, ask(), book)
            assert "/opt" not in caught.value.message
            assert book.calls[0].end == _closed(Outcome.FAILED, None, Blame.NONE)
        assert engine.workers()[0].ready


async def test_a_prompt_that_does_not_fit(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        for words in ("x " * 9000, "🙂" * 9000):
            with pytest.raises(ContextTooLong):
                await run(engine, ask(words))
        assert fake_worker.book() == []  # it was counted, not sent


async def test_failures_open_the_breaker_and_no_worker_is_left(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(status=500))
        for _ in range(3):
            with pytest.raises(WorkerLost):
                await run(engine, ask())
        assert not engine.workers()[0].ready
        book = Book()
        with pytest.raises(NoWorker):
            await run(engine, ask(), book)
        assert book.calls[0].end == _closed(Outcome.FAILED, None, Blame.NONE)
        assert book.calls[0].worker is None


async def test_a_refused_allowance_leaves_as_it_is(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        with pytest.raises(AllowanceRefused):
            await run(engine, ask(), Book(refuse=lambda spec: True))
        assert fake_worker.book() == []


# ---------------------------------------------------------------------- deadlines, queues


async def test_a_deadline_before_the_first_token(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(first_delay_ms=60_000))
        book = Book()
        with pytest.raises(DeadlinePassed):
            await run(engine, ask(deadline_ms=100), book)
        assert book.calls[0].end.blame is Blame.CLIENT
        assert fake_worker.wait_idle()[-1].aborted is not None


async def test_a_deadline_in_the_answer_ends_it_there(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(_LONG)
        book = Book()
        heard = await run(engine, ask(deadline_ms=200, max_tokens=500), book)
        assert heard.done.stop_reason == "deadline"
        assert heard.finishes == {0: "length"}
        entry = fake_worker.wait_idle()[-1]
        assert 1 < entry.completion < 500
        assert book.calls[0].produced == entry.completion


async def test_calls_wait_in_our_queue_not_in_the_workers() -> None:
    async with FakeWorker(Options(max_running=2, max_queued=4)) as worker, opened(worker) as engine:
        worker.script(Behaviour(tokens=10, delay_ms=3))
        books = [Book() for _ in range(12)]
        heard = await asyncio.gather(*(run(engine, ask(f"words {n}"), book) for n, book in enumerate(books)))
        assert all(h.done for h in heard)
        served = [book.calls[-1].end.outcome for book in books]
        assert served.count(Outcome.COMPLETE) == 12


async def test_a_worker_that_comes_back_serves_again() -> None:
    async with FakeWorker() as worker, opened(worker) as engine:
        await run(engine, ask())
        worker.kill()
        with pytest.raises(EngineError):
            await run(engine, ask())
        worker.restart()
        assert await engine.wait_ready(10)
        heard = await run(engine, ask())
        assert heard.done
