"""The consumer leaves after each batch in turn, or is cancelled at any moment: every meter is closed once, nothing runs on."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from asking.allowance import Book
from asking.ask import ask, opened, until
from doubles.worker_process import Behaviour, FakeWorker, Match
from museway_engine.allowance import AllowanceRefused, Outcome
from museway_engine.completion import Completion, Contemplating, Mode
from museway_engine.engine import Engine
from museway_engine.errors import EngineError
from museway_engine.events import Output, Reasoning

pytestmark = pytest.mark.anyio

_REQUESTS: dict[str, dict[str, Any]] = {
    "instant": {"mode": Mode.INSTANT, "max_tokens": 12},
    "whole": {"mode": Mode.INSTANT, "max_tokens": 12, "stream": False},
    "choices": {"mode": Mode.INSTANT, "max_tokens": 6, "n": 3},
    "thinking": {"mode": Mode.THINKING, "max_tokens": 44},
    "contemplating": {
        "mode": Mode.CONTEMPLATING,
        "max_tokens": 8,
        "contemplating": Contemplating(agents=3, rounds=1, agent_max_tokens=16),
    },
    "auto": {"mode": Mode.AUTO, "max_tokens": 12},
}


def _completion(name: str) -> Completion:
    return ask("What is 3 + 4?" if name == "auto" else "Hello there", **_REQUESTS[name])


async def _leave_after(
    engine: Engine, completion: Completion, book: Book, batches_seen: int
) -> tuple[bool, dict[str, int]]:
    """Whether the run was left early, and the last count delivered of each call."""
    seen: dict[str, int] = {}
    run = engine.run(engine.prepare(completion), allowance=book, cache_salt="s", affinity_salt="s")
    async with run as batches:
        for _ in range(batches_seen):
            try:
                batch = await anext(batches)
            except StopAsyncIteration:
                return False, seen
            for event in batch:
                if isinstance(event, Output | Reasoning):
                    seen[event.rid] = event.n
    return True, seen


def _check(book: Book, worker: FakeWorker, engine: Engine, seen: dict[str, int]) -> None:
    entries = {entry.rid: entry for entry in worker.wait_idle()}
    for call in book.calls:
        entry, end = entries.get(call.spec.rid), call.end
        if entry is None:
            assert end.outcome is Outcome.FAILED or end.counts is None or call.worker is None
            continue
        if end.counts is not None:
            assert end.counts.reasoning + end.counts.output == entry.completion
            assert end.counts.prompt in (0, entry.prompt)
        assert seen.get(call.spec.rid, 0) <= entry.completion
        assert entry.finish != "length" or entry.aborted is None or entry.completion <= call.granted
    assert [w.in_flight for w in engine.workers()] == [0]


@pytest.mark.parametrize("name", _REQUESTS)
async def test_leaving_after_each_batch(fake_worker: FakeWorker, name: str) -> None:
    async with opened(fake_worker) as engine:
        left_early, after = True, 0
        while left_early and after < 80:
            fake_worker.reset()
            fake_worker.script(Behaviour(tokens=100, delay_ms=1))
            book = Book()
            left_early, seen = await _leave_after(engine, _completion(name), book, after)
            _check(book, fake_worker, engine, seen)
            after += 1
        assert after > 2


@pytest.mark.parametrize("name", _REQUESTS)
async def test_a_cancellation_at_any_turn_of_the_loop(fake_worker: FakeWorker, name: str) -> None:
    """The moment is drawn; a failure names it."""
    rng = random.Random(name)
    async with opened(fake_worker) as engine:
        for _ in range(25):
            fake_worker.reset()
            fake_worker.script(Behaviour(tokens=100, delay_ms=1))
            turns, book = rng.randrange(0, 400), Book()
            task = asyncio.create_task(_leave_after(engine, _completion(name), book, 10_000))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            try:
                _check(book, fake_worker, engine, {})
            except AssertionError as broken:
                raise AssertionError(f"cancelled after {turns} turns: {broken}") from broken


@pytest.mark.parametrize("name", ["thinking", "contemplating"])
@pytest.mark.parametrize("refused", range(5))
async def test_a_refusal_at_each_call(fake_worker: FakeWorker, name: str, refused: int) -> None:
    async with opened(fake_worker) as engine:
        book = Book(refuse=lambda spec: len(book.calls) >= refused)
        try:
            await _leave_after(engine, _completion(name), book, 10_000)
        except AllowanceRefused:
            pass
        assert len(book.calls) <= refused
        _check(book, fake_worker, engine, {})


@pytest.mark.parametrize("name", _REQUESTS)
async def test_nothing_is_left_of_a_run(fake_worker: FakeWorker, name: str) -> None:
    """No task and no connection in use, however the run ended."""
    async with opened(fake_worker) as engine:
        before = len(asyncio.all_tasks())
        for after in (0, 1, 3, 10_000):
            await _leave_after(engine, _completion(name), Book(), after)
            await until(lambda: len(asyncio.all_tasks()) <= before)
        fake_worker.script(Behaviour(drop_after=2, tokens=50), Match(route="chat"))
        try:
            await _leave_after(engine, _completion(name), Book(), 10_000)
        except EngineError:
            pass
        await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_one_hundred_clients_leave_at_once(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        fake_worker.script(Behaviour(tokens=2000, delay_ms=5))
        books = [Book() for _ in range(100)]
        names = ["instant", "thinking", "choices"]
        tasks = [
            asyncio.create_task(_leave_after(engine, _completion(names[n % 3]), book, 10_000))
            for n, book in enumerate(books)
        ]
        await until(lambda: all(book.calls and book.calls[0].prompts for book in books))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        entries = {entry.rid: entry for entry in fake_worker.wait_idle()}
        for book in books:
            for call in book.calls:
                if call.end.counts is not None and call.spec.rid in entries:
                    assert call.produced == entries[call.spec.rid].completion
        assert engine.workers()[0].in_flight == 0
