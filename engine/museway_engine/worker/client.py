"""The HTTP client of the token path: a pool of connections to one worker (measured against eight libraries: STACK §1)."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from museway_engine.worker.connection import Connection, ConnectionFailed

_ABORTS_MAX = 32
"""Aborts at once: a thousand clients that vanish together would else open a thousand connections for them."""


class Timing(Struct, frozen=True, kw_only=True):
    """Time-outs of the wire, in seconds.

    `first_byte_s` bounds the wait for the first byte of an answer's body, `idle_s` each silence after it, `exchange_s` a
    whole small exchange (probes, tokenizing), `drain_s` the wait for the last chunk of an aborted call.
    """

    connect_s: float = 5.0
    first_byte_s: float = 600.0
    idle_s: float = 120.0
    exchange_s: float = 30.0
    drain_s: float = 2.0


class Reply(Struct, frozen=True):
    """A small answer, read whole."""

    status: int
    body: bytes


class Exchange:
    """One request and its answer on a borrowed connection. Leave it by `close()`, always."""

    __slots__ = ("_client", "_connection", "_first_byte_s", "_request", "_takes_room")

    def __init__(
        self, client: Client, connection: Connection, request: bytes, *, first_byte_s: float, takes_room: bool
    ) -> None:
        self._client = client
        self._connection = connection
        self._request = request
        self._first_byte_s = first_byte_s
        self._takes_room = takes_room

    def send(self) -> None:
        """Write the request. Raises ConnectionFailed."""
        self._connection.send(self._request, first_byte_s=self._first_byte_s, idle_s=self._client.timing.idle_s)

    def head(self) -> Coroutine[Any, Any, int]:
        """The status. Raises ConnectionFailed.

        Never sends again by itself: a worker may have begun before a kept connection died, and what it makes under one
        rid has to be in one record. `Call` makes a new attempt where the failure is `stale`.
        """
        return self._connection.head()

    def read(self) -> Coroutine[Any, Any, bytes]:
        """What has arrived, b"" at the end. Raises ConnectionFailed."""
        return self._connection.read()  # handed on, not awaited: a level less for every chunk to pass

    def cut(self, cause: str) -> None:
        """Whoever reads is woken with ConnectionFailed. `close()` is still to be called."""
        self._connection.abort(cause)

    def close(self) -> None:
        """Give the connection back if its answer was read whole, else cut it (SGLang aborts what it carried)."""
        self._client.give_back(self._connection, takes_room=self._takes_room)


class Client:
    """Connections to one worker. `url` is scheme, host and port, and perhaps a path in front of SGLang's own paths.

    At most `connections_max` are open for calls (more wait); an urgent exchange (an abort) never waits.
    """

    def __init__(self, url: str, *, timing: Timing, connections_max: int = 1024) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the URL of a worker: {url!r}")
        self.url = url.rstrip("/")
        self.timing = timing
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self._idle: list[Connection] = []
        self._room = connections_max
        self.aborting = asyncio.Semaphore(_ABORTS_MAX)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def open(self, path: str, body: bytes, *, first_byte_s: float | None = None) -> Exchange:
        """Send a POST; the answer's head has not arrived when this returns. Raises ConnectionFailed."""
        return await self._open(
            self._encode("POST", path, body), first_byte_s or self.timing.first_byte_s, urgent=False
        )

    async def request(
        self, method: str, path: str, body: bytes | None = None, *, within_s: float | None = None, urgent: bool = False
    ) -> Reply:
        """A small exchange. Raises ConnectionFailed, also where it took longer than `within_s`.

        A kept connection that died before a byte of the answer is replaced once: these exchanges can be repeated.
        """
        limit = within_s or self.timing.exchange_s
        message = self._encode(method, path, body)
        try:
            async with asyncio.timeout(limit):
                try:
                    return await self._exchange(message, limit, urgent=urgent)
                except ConnectionFailed as failure:
                    if not failure.stale:
                        raise
                return await self._exchange(message, limit, urgent=urgent)
        except TimeoutError as error:
            raise ConnectionFailed("no answer in time", timeout=True) from error

    async def _exchange(self, message: bytes, limit: float, *, urgent: bool) -> Reply:
        exchange = await self._open(message, limit, urgent=urgent)
        try:
            status = await exchange.head()
            pieces: list[bytes] = []
            while piece := await exchange.read():
                pieces.append(piece)
            return Reply(status, b"".join(pieces))
        finally:
            exchange.close()

    async def _open(self, request: bytes, first_byte_s: float, *, urgent: bool) -> Exchange:
        if not urgent:
            await self._take_room()
        connection: Connection | None = None
        try:
            connection = self._idle.pop() if self._idle else await self.connect()
            exchange = Exchange(self, connection, request, first_byte_s=first_byte_s, takes_room=not urgent)
            exchange.send()
        except (ConnectionFailed, asyncio.CancelledError):
            if connection is not None:
                connection.abort()
            if not urgent:
                self._leave_room()
            raise
        return exchange

    async def _take_room(self) -> None:
        """One of the connections for calls; waits for it in the order of arrival. (asyncio's Semaphore costs ten times this.)"""
        if self._room > 0:
            self._room -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave_room()  # the room came in the moment in which the wait was given up
            raise

    def _leave_room(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # handed on: the count stays
                return
        self._room += 1

    async def connect(self) -> Connection:
        """A new connection. Raises ConnectionFailed."""
        if self._closed:
            raise ConnectionFailed("the client is closed", unanswered=True)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timing.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._lost), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectionFailed("no connection in time", unanswered=True, timeout=True) from error
        except OSError as error:
            raise ConnectionFailed("no connection", unanswered=True) from error
        return connection

    def give_back(self, connection: Connection, *, takes_room: bool) -> None:
        if takes_room:
            self._leave_room()
        if connection.is_reusable and not self._closed:
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Cut what is idle; connections in use are cut when they are given back."""
        self._closed = True
        for connection in self._idle.copy():
            connection.abort()

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _encode(self, method: str, path: str, body: bytes | None) -> bytes:
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\nhost: {self._authority}\r\n".encode()
        if body is None:
            return head + b"\r\n"
        return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)
