"""The HTTP client against a server that answers what a test wrote: framings, dead idle connections, time-outs, pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from museway_engine.worker.client import Client, Exchange, Timing
from museway_engine.worker.connection import ConnectionFailed

pytestmark = pytest.mark.anyio

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_QUICK = Timing(connect_s=1.0, first_byte_s=0.4, idle_s=0.2, exchange_s=5.0)

Serve = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts its connections; `serve` speaks on each."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.url = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await self._serve(self, reader, writer)
            while await reader.read(65_536):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request whole; b"" where the peer closed."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        size = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
        whole = head + await reader.readexactly(size)
        self.requests.append(whole)
        return whole

    def drop(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(serve: Serve, timing: Timing = _QUICK) -> AsyncGenerator[tuple[Server, Client]]:
    server = Server(serve)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    client = Client(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", timing=timing)
    server.url = client.url
    try:
        yield server, client
    finally:
        client.close()
        server.drop()
        listener.close()


async def _always_ok(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await server.request(reader):
        writer.write(_OK)


async def test_a_connection_is_used_again() -> None:
    async with serving(_always_ok) as (server, client):
        for _ in range(3):
            reply = await client.request("POST", "/x", b"{}")
            assert (reply.status, reply.body) == (200, b"ok")
        assert server.connections == 1
        assert server.requests[0].startswith(b"POST /x HTTP/1.1\r\nhost: 127.0.0.1:")
        assert server.requests[0].endswith(b"content-length: 2\r\n\r\n{}")


async def test_a_path_before_the_workers_paths() -> None:
    async with serving(_always_ok) as (server, client):
        await Client(f"{client.url}/router/", timing=_QUICK).request("GET", "/v1/models")
        assert server.requests[0].startswith(b"GET /router/v1/models HTTP/1.1\r\n")


async def test_an_idle_connection_that_died_is_replaced_unnoticed() -> None:
    async def one_each(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(_OK)
        await server.request(reader)  # the second is read and never answered
        writer.close()

    async with serving(one_each) as (server, client):
        assert (await client.request("GET", "/1")).status == 200
        assert (await client.request("GET", "/2")).status == 200
        assert server.connections == 2


async def test_a_fresh_connection_that_dies_is_a_failure() -> None:
    async def hang_up(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.close()

    async with serving(hang_up) as (server, client):
        with pytest.raises(ConnectionFailed) as caught:
            await client.request("GET", "/")
        assert caught.value.unanswered
        assert server.connections == 1


async def test_nobody_listens() -> None:
    client = Client("http://127.0.0.1:9", timing=_QUICK)
    with pytest.raises(ConnectionFailed) as caught:
        await client.request("GET", "/")
    assert caught.value.unanswered
    assert not caught.value.timeout


@pytest.mark.parametrize("url", ["worker:30000", "ftp://x", "http://"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="not the URL"):
        Client(url, timing=_QUICK)


@pytest.mark.parametrize(
    "wire",
    [
        _CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc",
    ],
    ids=["chunked", "length", "interim", "until-close"],
)
async def test_framings_at_every_cut(wire: bytes) -> None:
    async def byte_by_byte(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        for place in range(len(wire)):
            writer.write(wire[place : place + 1])
            await writer.drain()
        if b"close" in wire:
            writer.close()

    async with serving(byte_by_byte) as (_, client):
        reply = await client.request("GET", "/")
        assert (reply.status, reply.body) == (200, b"abc")


async def test_half_an_answer_is_a_failure() -> None:
    async def half(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(_CHUNKED + b"5\r\nhe")
        writer.close()

    async with serving(half) as (_, client):
        exchange = await client.open("/", b"")
        assert await exchange.head() == 200
        assert await exchange.read() == b"he"
        with pytest.raises(ConnectionFailed):
            await exchange.read()
        exchange.close()


@pytest.mark.parametrize(
    ("begin", "timing"),
    [
        (b"", Timing(first_byte_s=0.2, idle_s=60, exchange_s=10)),
        (_CHUNKED, Timing(first_byte_s=0.2, idle_s=60, exchange_s=10)),
        (_CHUNKED + b"1\r\na\r\n", Timing(first_byte_s=60, idle_s=0.2, exchange_s=10)),
    ],
    ids=["no-head", "no-body", "idle"],
)
async def test_a_silent_worker_is_given_up(begin: bytes, timing: Timing) -> None:
    async def silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(begin)

    async with serving(silent, timing) as (server, client):
        with pytest.raises(ConnectionFailed, match="no byte in time") as caught:
            await _read_all(await client.open("/", b""))
        assert caught.value.timeout
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_a_slow_but_living_worker_is_not_given_up() -> None:
    async def drip(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(_CHUNKED)
        for _ in range(8):
            await _tick(0.08)
            writer.write(b"1\r\na\r\n")
        writer.write(b"0\r\n\r\n")

    async with serving(drip) as (_, client):
        assert (await client.request("GET", "/")).body == b"a" * 8


async def _read_all(exchange: Exchange) -> bytes:
    try:
        await exchange.head()
        whole = b""
        while piece := await exchange.read():
            whole += piece
        return whole
    finally:
        exchange.close()


async def _tick(seconds: float) -> None:
    """The pace of a slow worker: what is tested is that it outlives the time-outs."""
    ticked = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ticked.set)
    await ticked.wait()


async def test_a_worker_that_outruns_its_reader_is_held_back() -> None:
    stalled = asyncio.Event()

    async def flood(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(_CHUNKED)
        block = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        for _ in range(640):  # 40 MiB: more than all buffers between
            writer.write(block)
            try:
                await asyncio.wait_for(writer.drain(), 0.3)
            except TimeoutError:
                stalled.set()
                await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(flood, Timing(first_byte_s=30, idle_s=0.05)) as (server, client):
        exchange = await client.open("/", b"")
        await exchange.head()
        await asyncio.wait_for(
            stalled.wait(), 20
        )  # six idle time-outs long: silence of our own making is not the worker's
        size = 0
        while piece := await exchange.read():
            size += len(piece)
        assert size == 640 * 65_536
        exchange.close()
        assert server.connections == 1


async def test_an_unread_answer_is_cut_not_reused() -> None:
    async def long(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(_CHUNKED + b"1\r\na\r\n")

    async with serving(long, Timing()) as (server, client):
        exchange = await client.open("/", b"")
        await exchange.head()
        exchange.close()
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_cutting_wakes_the_reader() -> None:
    async def silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)

    async with serving(silent, Timing()) as (server, client):
        exchange = await client.open("/", b"")
        reading = asyncio.create_task(exchange.head())
        await asyncio.sleep(0)
        exchange.cut("enough")
        with pytest.raises(ConnectionFailed, match="enough"):
            await reading
        exchange.close()
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_what_is_not_http() -> None:
    async def noise(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(b"SSH-2.0-x\r\n\r\n")

    async with serving(noise) as (_, client):
        with pytest.raises(ConnectionFailed):
            await client.request("GET", "/")


async def test_only_so_many_connections_but_an_abort_never_waits() -> None:
    async def silent(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"abort" in await server.request(reader):
            writer.write(_OK)

    async with serving(silent, Timing()) as (server, client):
        narrow = Client(server.url, timing=Timing(), connections_max=1)
        first = await narrow.open("/1", b"")
        second = asyncio.create_task(narrow.open("/2", b""))
        reply = await narrow.request("POST", "/abort", b"", urgent=True)
        assert reply.status == 200
        assert not second.done()
        first.close()
        (await second).close()
        narrow.close()
        assert client.url == server.url
