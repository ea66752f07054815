"""Where the tasks of a mode put their batches, and its client takes them: bounded, and many batches cost one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque

from museway_engine.events import AnyEvent
from museway_engine.modes.mode import Batch

_PENDING_MAX = 64


class Channel:
    """An async iterator for one consumer; any number of tasks put. Ends by `close()`, or by the error of `fail()`."""

    def __init__(self) -> None:
        self._pending: list[AnyEvent] = []
        self._reader: asyncio.Future[None] | None = None
        self._writers: deque[asyncio.Future[None]] = deque()
        self._error: Exception | None = None
        self._closed = False

    async def put(self, batch: Batch) -> None:
        """Waits while the consumer is behind by more than 64 events."""
        while len(self._pending) >= _PENDING_MAX:
            room = asyncio.get_running_loop().create_future()
            self._writers.append(room)
            await room
        self.put_nowait(batch)

    def put_nowait(self, batch: Batch) -> None:
        """For what comes seldom (progress, ends): never waits."""
        self._pending += batch
        _set(self._reader)

    def close(self) -> None:
        """The iteration ends after what is pending."""
        self._closed = True
        _set(self._reader)

    def fail(self, error: Exception) -> None:
        """The iteration raises `error` after what is pending; the first one counts."""
        if self._error is None:
            self._error = error
        self.close()

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> Batch:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        batch, self._pending = self._pending, []
        while self._writers:
            _set(self._writers.popleft())
        return batch


def _set(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
