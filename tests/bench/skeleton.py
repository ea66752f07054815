"""The least that a Litestar gateway can do: pass a chat call to a worker and its bytes back. What the gateway is measured by.

No key, no meter, no limit: what the real one costs above this is the price of what it does. Serve it with
`SKELETON_WORKER=PORT granian --interface asgi bench.skeleton:app` or with uvicorn.
"""

import asyncio
import gc
import os
from collections import deque
from typing import cast

import httptools
from litestar import Litestar, Request, post
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send
from msgspec import Struct

_HIGH_WATER = 64 * 1024
_PATH = "/v1/chat/completions"


class ClientGone(Exception):
    """The client closed its connection while the worker still answered."""


class Upstream(asyncio.Protocol):
    """A worker connection: httptools parses, bytes are handed on as they came, reading pauses above 64 KiB."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.head: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.content_type = b""
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._reader: asyncio.Future[None] | None = None
        self._whole = False
        self._paused = False
        self._error: Exception | None = None

    @staticmethod
    async def post(port: int, body: bytes) -> "Upstream":
        """Send and wait for the head. Raises OSError where the worker is away."""
        loop = asyncio.get_running_loop()
        if _idle:
            upstream = _idle.pop()
        else:
            _, upstream = await loop.create_connection(Upstream, "127.0.0.1", port)
        upstream.head = loop.create_future()
        head = b"POST %b HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        assert upstream.transport is not None
        upstream.transport.write(head % (_PATH.encode(), len(body)) + body)
        await upstream.head
        return upstream

    # -- asyncio.Protocol and httptools
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value

    def on_headers_complete(self) -> None:
        if self.head is not None and not self.head.done():
            self.head.set_result(None)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)
        if self._size > _HIGH_WATER and self.transport is not None:
            self.transport.pause_reading()
            self._paused = True
        self._wake()

    def on_message_complete(self) -> None:
        self._whole = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._error = self._error or exc or ConnectionError("the worker closed the connection")
        if self in _idle:
            _idle.remove(self)
        for waiting in (self.head, self._reader):
            if waiting is not None and not waiting.done():
                waiting.set_exception(self._error)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    # -- for the relay
    async def read(self) -> bytes:
        """All that has come, joined; empty at the end. Raises ClientGone, or the connection's error."""
        if not self._pieces:
            if self._whole:
                return b""
            if self._error is not None:
                raise self._error
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return data

    def client_gone(self) -> None:
        """End the call at once: the worker sees its connection cut."""
        if self._whole or self.transport is None:
            return
        self._error = ClientGone()
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_exception(self._error)
        self.transport.abort()

    def release(self) -> None:
        """Back to the pool if the answer was read to its end, else cut."""
        if self.transport is None:
            return
        if self._whole:
            self._reset()
            _idle.append(self)
        else:
            self.transport.abort()


_idle: list[Upstream] = []


class Relay(ASGIResponse):
    """A handler's answer that writes itself to the client: Litestar's part ends before the first byte."""

    def __init__(self, body: bytes, port: int) -> None:  # the parent prepares a body, which this has not
        self._body = body
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        upstream = await Upstream.post(self._port, self._body)
        watcher = asyncio.get_running_loop().create_task(_watch(receive, upstream))
        try:
            headers = [(b"content-type", upstream.content_type)]
            status = upstream.parser.get_status_code()
            await send({"type": "http.response.start", "status": status, "headers": headers})
            while piece := await upstream.read():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            return
        finally:
            watcher.cancel()
            upstream.release()


async def _watch(receive: Receive, upstream: Upstream) -> None:
    """ASGI tells of a client that left only here; `send` after it is silent."""
    while (await receive())["type"] != "http.disconnect":
        pass
    upstream.client_gone()


class Message(Struct):
    """One message, as far as the skeleton checks it."""

    role: str
    content: str


class ChatRequest(Struct):
    """The body, as far as the skeleton checks it."""

    model: str
    messages: list[Message]
    stream: bool = False
    max_tokens: int = 16


@post(_PATH, status_code=200)
async def chat(data: ChatRequest, request: Request[None, None, State], state: State) -> Relay:
    """Decode, then pass the bytes on."""
    return Relay(await request.body(), state.worker_port)


async def _freeze() -> None:
    # Litestar's heap makes each full collection dear: unfrozen, a chunk costs 1.4 times as much.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)


app = Litestar(
    [chat], state=State({"worker_port": int(os.environ.get("SKELETON_WORKER", "9101"))}), on_startup=[_freeze]
)
