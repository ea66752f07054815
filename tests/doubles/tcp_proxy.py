"""A TCP proxy that a test tells to cut, delay, freeze or half-close what runs through it.

`TcpProxy` lives in the test's event loop; `proxy_in_thread` gives the same to a test that has none. Bytes pass untouched
and in order; a half-close passes as one.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

from msgspec import Struct, field

_STOP_S = 5.0


class Toward(Enum):
    """A direction of travel."""

    SERVER = "server"
    CLIENT = "client"


class Faults(Struct):
    """What is done to the bytes; changes hold for living connections at once."""

    delay_s: dict[Toward, float] = field(default_factory=dict[Toward, float])
    frozen: set[Toward] = field(default_factory=set[Toward])
    """Bytes in this direction wait until they thaw."""
    cut_after: dict[Toward, int] = field(default_factory=dict[Toward, int])
    """End a connection once so many bytes passed in this direction; the byte that reaches the number still passes."""
    cut_by: Literal["reset", "end"] = "reset"
    """A reset may overtake the bytes before it; an end (FIN) comes after exactly those bytes."""
    refusing: bool = False
    """Reset every new connection."""


class _Side(asyncio.Protocol):
    """One end of a link: reads from its peer, hands on to the other side."""

    def __init__(self, link: "_Link", toward: Toward) -> None:
        self.link = link
        self.toward = toward  # where the bytes that this side reads go
        self.transport: asyncio.Transport | None = None
        self.held: deque[bytes | None] = deque()  # None is the end of the stream
        self.passed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.link.is_cut:
            self.reset()

    def data_received(self, data: bytes) -> None:
        self.link.arrived(self, data)

    def eof_received(self) -> bool:
        self.link.arrived(self, None)
        return True  # stay open for the other direction

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.link.lost(self)

    def pause_writing(self) -> None:
        if (other := self.link.other(self).transport) is not None:
            other.pause_reading()

    def resume_writing(self) -> None:
        if (other := self.link.other(self).transport) is not None:
            other.resume_reading()

    def reset(self) -> None:
        """Close with RST, so that the peer sees an error and not an end."""
        if self.transport is not None:
            raw = cast("socket.socket", self.transport.get_extra_info("socket"))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


class _Link:
    """One client connection and its twin to the server."""

    def __init__(self, faults: Faults, gone: Callable[["_Link"], None]) -> None:
        self._faults = faults
        self._gone = gone
        self.is_cut = False
        self.client = _Side(self, Toward.SERVER)
        self.server = _Side(self, Toward.CLIENT)

    def other(self, side: _Side) -> _Side:
        return self.server if side is self.client else self.client

    def arrived(self, side: _Side, data: bytes | None) -> None:
        side.held.append(data)
        delay_s = self._faults.delay_s.get(side.toward, 0.0)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.release, side, 1)
        else:
            self.release(side)

    def release(self, side: _Side, pieces: int | None = None) -> None:
        """Hand on what is held, all of it or so many pieces, unless it is frozen or the other end is not there yet."""
        target = self.other(side).transport
        count = len(side.held) if pieces is None else min(pieces, len(side.held))
        if side.toward in self._faults.frozen or target is None:
            return
        for data in [side.held.popleft() for _ in range(count)]:
            if data is None:
                if target.can_write_eof() and not target.is_closing():
                    target.write_eof()
                continue
            limit = self._faults.cut_after.get(side.toward)
            if limit is not None and side.passed + len(data) >= limit:
                target.write(data[: limit - side.passed])
                self.cut() if self._faults.cut_by == "reset" else self.close()
                return
            side.passed += len(data)
            target.write(data)

    def cut(self) -> None:
        """Reset both ends; one that is not there yet is reset when it comes."""
        self.is_cut = True
        self.client.reset()
        self.server.reset()

    def close(self) -> None:
        """End both directions after what was written."""
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.close()

    def half_close(self, toward: Toward) -> None:
        target = self.server.transport if toward is Toward.SERVER else self.client.transport
        if target is not None and target.can_write_eof():
            target.write_eof()

    def lost(self, side: _Side) -> None:
        other = self.other(side).transport
        if other is not None:
            other.close()
        else:
            self._gone(self)


class TcpProxy:
    """An async context manager. `url` is the server's URL with this proxy's address in it."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._url = parts
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self.faults = Faults()
        self.accepted = 0
        self.port = 0

    @property
    def url(self) -> str:
        user = f"{self._url.netloc.rpartition('@')[0]}@" if "@" in self._url.netloc else ""
        return self._url._replace(netloc=f"{user}127.0.0.1:{self.port}").geturl()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        self.cut()
        for task in tuple(self._dials):
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)

    def _accept(self) -> _Side:
        self.accepted += 1
        link = _Link(self.faults, self._links.discard)
        self._links.add(link)
        task = asyncio.get_running_loop().create_task(self._dial(link))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return link.client

    async def _dial(self, link: _Link) -> None:
        if self.faults.refusing:
            link.cut()
            return
        try:
            await asyncio.get_running_loop().create_connection(lambda: link.server, *self._target)
        except OSError:
            link.cut()
            return
        link.release(link.client)

    # -- commands
    def cut(self) -> None:
        """Reset every living connection, on both sides."""
        for link in tuple(self._links):
            link.cut()

    def half_close(self, toward: Toward) -> None:
        """Tell one end of every connection that no more bytes will come; the other direction stays open."""
        for link in tuple(self._links):
            link.half_close(toward)

    def freeze(self, *toward: Toward) -> None:
        """Hold back what travels in these directions, both by default; connections stay open."""
        self.faults.frozen |= set(toward or Toward)

    def thaw(self) -> None:
        """Let everything held back go on."""
        self.faults.frozen.clear()
        for link in tuple(self._links):
            link.release(link.client)
            link.release(link.server)

    def heal(self) -> None:
        """No faults any more, for what lives and what comes."""
        self.thaw()
        self.faults.delay_s.clear()
        self.faults.cut_after.clear()
        self.faults.refusing = False

    @property
    def open_connections(self) -> int:
        return len(self._links)


class ThreadedProxy:
    """A proxy that runs in a thread of its own; `do(TcpProxy.cut)` runs a command there and waits for it."""

    def __init__(self, proxy: TcpProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop

    @property
    def url(self) -> str:
        return self._proxy.url

    def do(self, command: Callable[..., None], *arguments: Any) -> None:
        """Run `command(proxy, *arguments)` in the proxy's thread."""

        async def run() -> None:
            command(self._proxy, *arguments)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(_STOP_S)


@contextmanager
def proxy_in_thread(target: str) -> Generator[ThreadedProxy]:
    """For tests without an event loop of their own."""
    ready: deque[tuple[TcpProxy, asyncio.AbstractEventLoop, asyncio.Event]] = deque()
    is_up = threading.Event()

    async def serve() -> None:
        ending = asyncio.Event()
        async with TcpProxy(target) as proxy:
            ready.append((proxy, asyncio.get_running_loop(), ending))
            is_up.set()
            await ending.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="tcp-proxy")
    thread.start()
    assert is_up.wait(_STOP_S), "the proxy did not start"
    proxy, loop, ending = ready[0]
    try:
        yield ThreadedProxy(proxy, loop)
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(_STOP_S)
