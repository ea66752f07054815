"""Short ways to ask an engine in a test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asking.allowance import Book
from doubles.worker_process import FakeWorker
from museway_engine.completion import Completion, Message, Mode
from museway_engine.engine import Engine, ModelConfig, Pace, Timing
from museway_engine.events import AnyEvent, Done, Finish, Output, Reasoning, text
from museway_engine.pool.affinity import affinity_key, rank

QUICK = Timing(connect_s=2.0, first_byte_s=20.0, idle_s=20.0, exchange_s=10.0, drain_s=2.0)
_PACE = Pace(look_s=0.05, answer_s=2.0)
_numbers = itertools.count(1)


def new_request_id() -> str:
    return f"req_{next(_numbers):026}"


def ask(words: str = "Hello there", **fields: Any) -> Completion:
    """A streaming completion of one user message."""
    defaults: dict[str, Any] = {
        "max_tokens": 40,
        "stream": True,
        "model": "muse",
        "messages": (Message(role="user", content=words),),
    }
    return Completion(request_id=new_request_id(), **{**defaults, **fields})


@asynccontextmanager
async def opened(
    *workers: FakeWorker | str, profile: str | None = None, timing: Timing = QUICK, ready: bool = True
) -> AsyncGenerator[Engine]:
    """An engine over these workers, ready."""
    urls = tuple(w if isinstance(w, str) else w.url for w in workers)
    config = ModelConfig(id="muse", urls=urls, profile=profile)
    engine = await Engine.open([config], secret=b"tests", timing=timing, pace=_PACE)
    try:
        if ready:
            await wait_all_ready(engine)
        yield engine
    finally:
        await engine.close()


async def wait_all_ready(engine: Engine) -> None:
    """Every worker is ready. Raises TimeoutError."""
    assert await engine.wait_ready(20.0), engine.workers()
    await until(lambda: all(worker.ready for worker in engine.workers()))


async def until(holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Turn the loop until something holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


class Heard:
    """What a client got of one request."""

    def __init__(self, events: Sequence[AnyEvent]) -> None:
        self.events = list(events)

    @property
    def output(self) -> str:
        return self.choice(0)

    def choice(self, number: int) -> str:
        return "".join(text(e.json) for e in self.events if isinstance(e, Output) and e.choice == number)

    @property
    def reasoning(self) -> str:
        return "".join(text(e.json) for e in self.events if isinstance(e, Reasoning))

    @property
    def finishes(self) -> dict[int, str]:
        return {e.choice: e.reason for e in self.events if isinstance(e, Finish)}

    @property
    def done(self) -> Done:
        last = self.events[-1]
        assert isinstance(last, Done), last
        assert sum(isinstance(e, Done) for e in self.events) == 1
        return last


async def run(engine: Engine, completion: Completion, book: Book | None = None, *, salt: str = "salt") -> Heard:
    """Run to the end; checks that every call is closed when `Done` comes."""
    book = book or Book()
    events: list[AnyEvent] = []
    prepared = engine.prepare(completion)
    async with engine.run(prepared, allowance=book, cache_salt=salt, affinity_salt=salt) as batches:
        async for batch in batches:
            assert batch, "an empty batch"
            events += batch
            if isinstance(batch[-1], Done):
                book.check_closed()
    return Heard(events)


def contemplate(**fields: Any) -> Completion:
    return ask("What is six times seven?", mode=Mode.CONTEMPLATING, **fields)


def in_rank(engine: Engine, completion: Completion, *, salt: str = "salt") -> list[str]:
    """The URLs of the workers, the one that this conversation prefers first."""
    return [worker.url for worker in rank(affinity_key(completion, salt), engine.workers())]
