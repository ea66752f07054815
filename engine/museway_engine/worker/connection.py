"""One HTTP/1.1 connection to a worker: httptools parses, bodies are handed on as they came.

Bounded both ways: above 64 KiB unread the socket is paused, and a worker that says nothing for too long is given up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

_UNREAD_HIGH = 65_536


class ConnectionFailed(Exception):
    """The worker could not be reached, or broke off. `unanswered`: before a byte of an answer.

    `stale`: it was a connection kept from an earlier exchange, so its end says nothing of the worker.
    """

    def __init__(self, cause: str, *, unanswered: bool = False, timeout: bool = False, stale: bool = False) -> None:
        super().__init__(cause)
        self.cause = cause
        self.unanswered = unanswered
        self.timeout = timeout
        self.stale = stale


class Connection(asyncio.Protocol):
    """Carries one exchange at a time: `send`, `await head`, `await read` until b"", then its owner reuses or aborts it.

    Only one coroutine may read at a time.
    """

    __slots__ = (
        "_failure",
        "_first_byte_by",
        "_flows",
        "_fresh",
        "_has_framing",
        "_headers_done",
        "_idle",
        "_idle_s",
        "_keeps_alive",
        "_look_by",
        "_loop",
        "_on_lost",
        "_parser",
        "_paused",
        "_queue",
        "_transport",
        "_unread",
        "_waiter",
        "done",
        "exchanges",
        "status",
    )

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(
            self
        )  # for all exchanges: each kept-alive answer ends where it says
        self._failure: ConnectionFailed | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_s = 0.0
        self._look_by = 0.0
        self._first_byte_by = 0.0
        self.exchanges = 0
        self._reset()

    def _reset(self) -> None:
        self._queue: deque[bytes] = deque()
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._flows = False
        self._fresh = False
        self._headers_done = False
        self._has_framing = False
        self._keeps_alive = False
        self.done = False
        self.status = 0

    def send(self, request: bytes, *, first_byte_s: float, idle_s: float) -> None:
        """Write a whole request. Silence of `first_byte_s` before the body, then of `idle_s`, ends the connection.

        A worker sends a stream's head at once, and its first byte of body when a queued prompt is done.
        """
        if self._transport is None:
            raise ConnectionFailed("closed before the request", unanswered=True, stale=self.exchanges > 0)
        if self.exchanges:
            self._reset()
        self.exchanges += 1
        self._idle_s = idle_s
        now = time.monotonic()
        self._first_byte_by = now + first_byte_s
        self._watch(now, min(first_byte_s, idle_s))
        self._transport.write(request)

    async def head(self) -> int:
        """The status of the answer. Raises ConnectionFailed."""
        while not self._headers_done:
            await self._news()
        return self.status

    async def read(self) -> bytes:
        """All that has arrived since the last call, joined; b"" at the end of the body. Raises ConnectionFailed."""
        queue = self._queue
        while not queue:
            if self.done:
                return b""
            await self._news()
        piece = queue.popleft() if len(queue) == 1 else b"".join(queue)
        queue.clear()
        self._unread = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def _news(self) -> asyncio.Future[None]:
        """Done when anything has happened. Not a coroutine: one level less to wake through for every chunk."""
        if self._failure is not None:
            raise self._failure
        waiter = self._waiter = self._loop.create_future()
        return waiter

    @property
    def is_reusable(self) -> bool:
        """The exchange ended, the worker keeps the connection open."""
        return self.done and self._keeps_alive and self._transport is not None

    def abort(self, cause: str = "closed by us", *, timeout: bool = False) -> None:
        """Cut the connection now; whoever reads gets ConnectionFailed, unless the answer was whole."""
        self._fail(ConnectionFailed(cause, timeout=timeout))
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._fresh = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort("not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._headers_done and not self.done and not self._has_framing and exc is None:
            self.on_message_complete()  # a body that ends with the connection
        unanswered = not self._fresh
        self._fail(ConnectionFailed("connection lost", unanswered=unanswered, stale=unanswered and self.exchanges > 1))
        self._on_lost(self)

    # ------------------------------------------------------------------ httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_framing = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._headers_done = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._flows = True
        self._queue.append(body)
        self._unread += len(body)
        if self._unread > _UNREAD_HIGH and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self._headers_done:  # not for an interim 1xx answer
            self.done = True
            self._keeps_alive = self._has_framing and self._parser.should_keep_alive()  # the parser forgets it later
            self._wake()

    # ------------------------------------------------------------------ inside

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, failure: ConnectionFailed) -> None:
        self._stop_watching()
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _watch(self, now: float, seconds: float) -> None:
        """Look in `seconds` at the latest. A timer that still runs from an earlier exchange, and rings in time, is enough:
        one for each exchange would cost as much as writing its request."""
        if self._idle is not None:
            if self._look_by <= now + seconds:
                return
            self._idle.cancel()
        self._look_by = now + seconds
        self._idle = self._loop.call_later(seconds, self._look)

    def _stop_watching(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _look(self) -> None:
        """Was anything received since the last look? A flag per read is cheaper than a timer per read."""
        self._idle = None
        if self.done:
            return
        now = time.monotonic()
        left = self._first_byte_by - now
        if self._flows and (self._fresh or self._paused):
            self._fresh = False
            self._watch(now, self._idle_s)
        elif not self._flows and left > 0:
            self._watch(now, min(left, self._idle_s))
        else:
            self.abort("no byte in time", timeout=True)
