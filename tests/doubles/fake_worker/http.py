"""An HTTP/1.1 server on httptools: parses requests, hands them one by one to a handler, writes answers.

It shows what a test of metering needs: the moment a peer left, and every write as its own.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TypeAlias, cast
from urllib.parse import unquote

import httptools
from msgspec import Struct, field

_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 405: b"Method Not Allowed", 503: b"Service Unavailable"}


class Request(Struct):
    """One request; header names in lower case, the path without its query."""

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


Handler: TypeAlias = Callable[[Request, "Connection"], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection. Writes to a peer that left are dropped; `is_gone` tells."""

    def __init__(self, handler: Handler, *, lag_s: float = 0.0, tasks: set[asyncio.Task[None]]) -> None:
        self._handler = handler
        self._lag_s = lag_s
        self._tasks = tasks
        self._pending: asyncio.Queue[tuple[Request, bool] | None] = asyncio.Queue()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._request = Request("", "", "")
        self._parts: list[bytes] = []
        self.split_bytes = False
        self.on_gone: Callable[[], None] | None = None

    # -- asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        task = asyncio.get_running_loop().create_task(self._serve())
        self._tasks.add(task)
        task.add_done_callback(self._served)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pending.put_nowait(None)
        if self.on_gone is not None:
            asyncio.get_running_loop().call_later(self._lag_s, self.on_gone)

    # -- httptools
    def on_url(self, url: bytes) -> None:
        parsed = httptools.parse_url(url)
        self._request.path = unquote(parsed.path.decode())
        self._request.query = (parsed.query or b"").decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        request, self._request = self._request, Request("", "", "")
        request.method = self._parser.get_method().decode()
        request.body = b"".join(self._parts)
        self._parts.clear()
        self._pending.put_nowait((request, self._parser.should_keep_alive()))

    async def _serve(self) -> None:
        while (taken := await self._pending.get()) is not None:
            request, keep_alive = taken
            await self._handler(request, self)
            self.on_gone = None
            self.split_bytes = False
            if not keep_alive:
                self.close()

    def _served(self, task: asyncio.Task[None]) -> None:
        """A fault of the double itself must be seen: on standard error, and as a reset connection."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            traceback.print_exception(fault)
            self.drop()

    # -- for the handler
    @property
    def is_gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def drop(self) -> None:
        """Reset the connection, unsent bytes with it."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close it after what is buffered."""
        if self._transport is not None:
            self._transport.close()

    def answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """A whole answer."""
        head = _head(status, f"content-length: {len(body)}\r\n" + (f"content-type: {content_type}\r\n" if body else ""))
        self.write(head + body)

    def start_stream(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.write(_head(200, f"content-type: {content_type}\r\ntransfer-encoding: chunked\r\n"))

    def chunk(self, data: bytes) -> None:
        """One chunk of a stream, one write (or one a byte, where the script wants that)."""
        if self.split_bytes:
            for at in range(len(data)):
                self.write(b"1\r\n%b\r\n" % data[at : at + 1])
        else:
            self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.write(b"0\r\n\r\n")

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _head(status: int, lines: str) -> bytes:
    reason = _REASONS.get(status, b"Error")
    fixed = f"date: {formatdate(usegmt=True)}\r\nserver: uvicorn\r\n{lines}vary: Origin\r\n\r\n"
    return b"HTTP/1.1 %d %b\r\n%b" % (status, reason, fixed.encode())
