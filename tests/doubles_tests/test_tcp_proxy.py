import asyncio
import http.client
from collections.abc import Generator

import pytest

from doubles.tcp_proxy import TcpProxy, Toward, proxy_in_thread
from doubles.worker_process import Behaviour, FakeWorker, Options
from doubles_tests.wire import call, next_event, opened

_ASK = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 400, "ignore_eos": True}


@pytest.fixture(scope="module")
def slow_worker() -> Generator[FakeWorker]:
    with FakeWorker(Options(delay_ms=20)) as worker:
        yield worker


def test_bytes_pass_untouched(slow_worker: FakeWorker) -> None:
    slow_worker.reset()
    body = {"text": "One", "sampling_params": {"max_new_tokens": 5}}
    with proxy_in_thread(slow_worker.url) as proxy:
        assert call(proxy.url, "/generate", body).json["text"] == call(slow_worker.url, "/generate", body).json["text"]


def test_a_cut_resets_both_ends(slow_worker: FakeWorker) -> None:
    slow_worker.reset()
    with proxy_in_thread(slow_worker.url) as proxy, opened(proxy.url, "/v1/chat/completions", _ASK) as response:
        next_event(response)
        proxy.do(TcpProxy.cut)
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            response.read()
        (entry,) = slow_worker.wait_idle()
    assert entry.disconnected is not None
    assert entry.finish == "abort"
    assert entry.completion < 400


@pytest.mark.parametrize("limit", [0, 1, 4, 9])
def test_a_cut_by_an_end_lets_exactly_so_many_bytes_pass(limit: int) -> None:
    async def scenario() -> bytes:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"0123456789")
            await writer.drain()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, TcpProxy(f"tcp://127.0.0.1:{port}") as proxy:
            proxy.faults.cut_by = "end"
            proxy.faults.cut_after[Toward.CLIENT] = limit
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            got = await reader.read()
            writer.close()
            return got

    assert asyncio.run(scenario()) == b"0123456789"[:limit]


def test_frozen_bytes_come_after_the_thaw(slow_worker: FakeWorker) -> None:
    slow_worker.reset()

    async def scenario() -> str:
        async with TcpProxy(slow_worker.url) as proxy:
            proxy.freeze(Toward.CLIENT)
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readline(), 0.05)
            proxy.thaw()
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            return line.decode()

    assert asyncio.run(scenario()) == "HTTP/1.1 200 OK\r\n"


def test_a_half_close_toward_the_worker_counts_as_leaving(slow_worker: FakeWorker) -> None:
    slow_worker.reset()
    with proxy_in_thread(slow_worker.url) as proxy, opened(proxy.url, "/v1/chat/completions", _ASK) as response:
        next_event(response)
        proxy.do(TcpProxy.half_close, Toward.SERVER)
        (entry,) = slow_worker.wait_idle()
    assert entry.disconnected is not None


def test_refused_connections_are_reset(slow_worker: FakeWorker) -> None:
    def refuse(proxy: TcpProxy) -> None:
        proxy.faults.refusing = True

    with proxy_in_thread(slow_worker.url) as proxy:
        proxy.do(refuse)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            call(proxy.url, "/v1/models")
        proxy.do(TcpProxy.heal)
        assert call(proxy.url, "/v1/models").status == 200


def test_a_stalled_stream_stands_until_it_is_left(slow_worker: FakeWorker) -> None:
    slow_worker.reset()
    slow_worker.script(Behaviour(stall_after=3))
    with opened(slow_worker.url, "/v1/chat/completions", {**_ASK, "rid": "stalled"}) as response:
        for _ in range(4):
            next_event(response)
        slow_worker.wait_for("stalled", tokens=3)
        assert slow_worker.book_page().live == ["stalled"]
    (entry,) = slow_worker.wait_idle()
    assert entry.completion == 3 + 1  # the step that an abort still makes
