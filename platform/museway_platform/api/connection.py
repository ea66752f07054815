"""One HTTP exchange over ASGI: read the body within bounds, notice a client that leaves, send.

Why not Litestar's Request and Response on the hot path: when a client goes while Litestar waits in `send`, the iterator
given to its Stream is closed only when collected. Here `async with` owns the lifetime (ARCHITECTURE.md, STYLE §7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from litestar.types import Message, Receive, Scope, Send

from museway_platform.api.attendance import BODY_S, ClientGone
from museway_platform.api.errors import ApiError, body_too_large, body_too_slow, wrong_content_type

SWALLOWED = 8
"""A refused body is read to its end up to so many times the limit, for so long."""
SWALLOW_S = 10.0

Headers = list[tuple[bytes, bytes]]

EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


async def read_body_in_time(scope: Scope, receive: Receive, limit: int) -> bytes:
    """`read_body` for a request that nobody else watches. Raises ApiError 408 too, where the body does not come."""
    try:
        async with asyncio.timeout(BODY_S):
            return await read_body(scope, receive, limit)
    except TimeoutError:
        raise body_too_slow(BODY_S) from None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises ApiError 413 above `limit` bytes, 415 for another content type."""
    content_type = header(scope, b"content-type")
    if content_type is not None and not content_type.lower().startswith(b"application/json"):
        raise wrong_content_type(content_type)
    told = header(scope, b"content-length")
    length = int(told) if told is not None and told.isdigit() else None
    if length is not None and length > limit:
        await _swallow(receive, limit * SWALLOWED)
        raise body_too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            await _swallow(receive, limit * SWALLOWED)
            raise body_too_large(limit)
        parts.append(part)
        # granian tells of the end in a message of its own, which costs as much as the body's
        if size == length or not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _swallow(receive: Receive, at_most: int) -> None:
    """Read on without keeping anything: a client that still sends would see a reset and never our answer."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(SWALLOW_S):
            while size < at_most:
                message: Any = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


class Exchange:
    """The answering half: start once, then bodies. `started` says whether a status has left."""

    __slots__ = ("_send", "request_id", "started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False
        self.status = 0

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.status = status
        message: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"x-request-id", self.request_id.encode()), *headers],
        }
        await self._send(message)

    def write(self, body: bytes) -> Awaitable[None]:
        return self._send(
            {"type": "http.response.body", "body": body, "more_body": True}
        )  # a level less for every chunk

    async def finish(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def json(self, status: int, body: bytes, headers: Headers) -> None:
        length = str(len(body)).encode()
        await self.start(status, [(b"content-type", b"application/json"), (b"content-length", length), *headers])
        await self.finish(body)

    async def error(self, error: ApiError, body: bytes) -> None:
        await self.json(error.status, body, [(k.encode(), v.encode()) for k, v in error.headers.items()])
