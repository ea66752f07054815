"""A client that can leave: one request per connection, and an exact account of what was delivered."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bench.mix import Planned

_PATH = "/v1/chat/completions"
_PATIENCE_S = 120.0
_LINE_MAX = 1 << 20


class Delivered(Struct, kw_only=True):
    """What one request got. Events with text are counted one token each at least, so they are a lower bound of tokens."""

    form: str
    status: int = 0
    request_id: str = ""
    left: bool = False
    output_events: int = 0
    """Events that carried visible text or a piece of a tool call."""
    reasoning_events: int = 0
    museway: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    finish: str | None = None
    problem: str = ""
    """What was wrong with the answer itself; empty where nothing was."""
    seconds: float = 0.0


class _Head(Struct):
    status: int
    headers: dict[str, str]


async def ask(base_url: str, key: str, request: Planned) -> Delivered:
    """Make one request, leave it when planned, tell what came. Never raises for what the gateway does wrong."""
    delivered = Delivered(form=request.form)
    began = time.monotonic()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await _exchange(base_url, key, request, delivered)
    except TimeoutError:
        delivered.problem = f"no end after {_PATIENCE_S:g} s"
    except (OSError, asyncio.IncompleteReadError, ValueError, KeyError, msgspec.DecodeError) as error:
        delivered.problem = f"{type(error).__name__}: {error}"
    delivered.seconds = time.monotonic() - began
    return delivered


async def get_json(base_url: str, key: str, path: str) -> dict[str, Any]:
    """GET, decoded. Raises ValueError for another status than 200."""
    reader, writer = await _connect(base_url)
    try:
        writer.write(_request_head("GET", path, key, b""))
        head = await _read_head(reader)
        body = b"".join([piece async for piece in _pieces(reader, head)])
    finally:
        writer.close()
    if head.status != 200:
        raise ValueError(f"GET {path}: {head.status} {body.decode()[:300]}")
    return msgspec.json.decode(body, type=dict[str, Any])


async def _exchange(base_url: str, key: str, request: Planned, delivered: Delivered) -> None:
    reader, writer = await _connect(base_url)
    try:
        body = msgspec.json.encode(request.body)
        writer.write(_request_head("POST", _PATH, key, body) + body)
        if request.leaves_after == 0:
            await writer.drain()
            delivered.left = True
            return
        head = await _read_head(reader)
        delivered.status = head.status
        delivered.request_id = head.headers.get("x-request-id", "")
        if head.status == 200 and request.streams:
            await _read_stream(reader, head, request, delivered)
        else:
            _read_whole(b"".join([piece async for piece in _pieces(reader, head)]), delivered)
    finally:
        writer.close()


async def _read_stream(reader: asyncio.StreamReader, head: _Head, request: Planned, delivered: Delivered) -> None:
    rest, ended = b"", False
    async with aclosing(_pieces(reader, head)) as pieces:
        async for piece in pieces:
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                ended = ended or event.strip() == b"data: [DONE]"
                _take(event, delivered)
                seen = delivered.output_events + delivered.reasoning_events
                if request.leaves_after is not None and seen >= request.leaves_after:
                    delivered.left = True
                    return
    if not ended:
        delivered.problem = delivered.problem or "the stream ended without [DONE]"


def _take(event: bytes, delivered: Delivered) -> None:
    data = b"".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
    if not data or data == b"[DONE]":
        return
    chunk = msgspec.json.decode(data, type=dict[str, Any])
    if "error" in chunk:
        delivered.problem = f"error event: {chunk['error']}"
    delivered.usage = chunk.get("usage") or delivered.usage
    delivered.museway = chunk.get("museway") or delivered.museway
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        delivered.output_events += bool(delta.get("content")) or bool(delta.get("tool_calls"))
        delivered.reasoning_events += bool(delta.get("reasoning_content"))
        delivered.finish = choice.get("finish_reason") or delivered.finish


def _read_whole(body: bytes, delivered: Delivered) -> None:
    if delivered.status != 200:
        delivered.problem = f"status {delivered.status}: {body.decode()[:300]}"
        return
    answer = msgspec.json.decode(body, type=dict[str, Any])
    delivered.usage, delivered.museway = answer.get("usage"), answer.get("museway")
    delivered.finish = answer["choices"][0]["finish_reason"]
    delivered.output_events = sum(bool(choice["message"].get("content")) for choice in answer["choices"])


async def _connect(base_url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    target = urlsplit(base_url)
    return await asyncio.open_connection(target.hostname, target.port, limit=_LINE_MAX)


def _request_head(method: str, path: str, key: str, body: bytes) -> bytes:
    fields = f"host: judge\r\nauthorization: Bearer {key}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{fields}content-type: application/json\r\n\r\n".encode()


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return _Head(int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs})


async def _pieces(reader: asyncio.StreamReader, head: _Head) -> AsyncGenerator[bytes]:
    """The body as it comes, its framing taken off. Raises IncompleteReadError where it is cut."""
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    elif "content-length" in head.headers:
        yield await reader.readexactly(int(head.headers["content-length"]))
    else:
        yield await reader.read()
