"""One question to a worker's /health, without an HTTP library: the answer is a status line."""

from __future__ import annotations

import asyncio
import contextlib


async def health(host: str, port: int, *, timeout_s: float) -> int | None:
    """The HTTP status of GET /health; None if nobody listens, hangs up or answers within `timeout_s` seconds.

    SGLang takes 1.0 s to answer (it waits for a sign of life from its scheduler) and up to 20 s to say 503, so a shorter
    time-out takes a busy worker for a dead one.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _status(host, port)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return None


async def _status(host: str, port: int) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        version, _, rest = (await reader.readuntil(b"\n")).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("not an HTTP answer")
        return int(rest[:3])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
