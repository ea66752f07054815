"""Clients that vanish, crawl or close half a door: they harm nobody but themselves, and leave nothing behind."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import msgspec
import pytest

from bench.mix import Planned
from doubles.worker_process import Behaviour, FakeWorker, Options
from faults.rest import held, rss_bytes, wait_at_rest, worker_pid
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import StartGateway

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]

STREAMS = scaled(200, 2000)
AT_ONCE = scaled(64, 256)
PATH = "/v1/chat/completions"
MIB = 1 << 20
JOURNAL_FILES = 2
"""The journal may have a segment that it ends and one that it begins open beside the one it had."""


@pytest.fixture
def siege(start_gateway: StartGateway) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=2)) as worker:
        yield Siege(start_gateway([worker.url]), worker)


def request(secret: str, **fields: object) -> bytes:
    """The bytes of one whole request; the connection may be used again."""
    body = msgspec.json.encode({"model": "muse", "messages": [{"role": "user", "content": "Hello"}], **fields})
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: siege\r\nauthorization: Bearer {secret}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def connect(siege: Siege, *, receive_bytes: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(30)
    client.connect(("127.0.0.1", siege.gateway.port))
    return client


def assert_nothing_left(siege: Siege) -> None:
    """No connection of a client, and no descriptor more than a gateway has that nobody ever asked anything."""
    wait_at_rest(siege.gateway)
    siege.gateway.until(lambda: held(siege.gateway).clients == 0, within_s=20)
    siege.gateway.until(lambda: held(siege.gateway).files <= siege.held.files, within_s=20)


def test_streams_that_vanish(siege: Siege) -> None:
    """At every point of a stream: before its first byte, between any two, at its last. Each is billed what it got."""
    chance = drawn("streams that vanish")
    body = {
        "model": "muse",
        "messages": [{"role": "user", "content": "Go on until I leave."}],
        "max_tokens": 100,
        "stream": True,
    }
    plan = [
        Planned(form="vanishes", body=body, leaves_after=chance.choice((0, chance.randrange(100))))
        for _ in range(STREAMS)
    ]
    with siege.load(plan, concurrency=AT_ONCE):
        pass
    verdict = siege.judge()
    assert sum(one.left for one in verdict.delivered) > STREAMS // 2
    assert verdict.states.keys() <= {"complete", "interrupted"}, verdict.states
    assert not any(record.credited_nano_usd for record in verdict.records), "to leave is no way to have it for nothing"
    assert sum(record.unbilled or 0 for record in verdict.records) < 25 * STREAMS, "streams run on for nobody"
    assert_nothing_left(siege)


def test_all_streams_vanish_at_once(siege: Siege) -> None:
    siege.worker.script(Behaviour(tokens=2000, delay_ms=20))
    body = {"model": "muse", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2000, "stream": True}
    with siege.load([Planned(form="vanishes", body=body)] * AT_ONCE, concurrency=AT_ONCE) as load:
        siege.under_way(min(AT_ONCE, 200))
        began = time.monotonic()
        load.leave()
    entries = siege.worker.wait_idle(20)
    siege.worker.script(Behaviour())
    assert max(entry.ended or 0.0 for entry in entries) - began < 5, "the worker goes on for nobody"
    siege.judge()
    assert_nothing_left(siege)


def test_a_client_that_reads_a_byte_a_second(siege: Siege) -> None:
    """What it does not read is not kept without bound: the call waits, and others are served meanwhile."""
    tokens, clients = 4000, scaled(6, 24)
    siege.worker.script(Behaviour(tokens=tokens, delay_ms=0), times=clients)
    crawlers = [connect(siege, receive_bytes=4096) for _ in range(clients)]
    pid = worker_pid(siege.gateway)
    before = rss_bytes(pid)
    for crawler in crawlers:
        crawler.sendall(request(siege.secret, max_tokens=tokens, stream=True, logprobs=True, top_logprobs=20))
    until = time.monotonic() + scaled(6, 60)
    grown = read = 0
    while time.monotonic() < until:
        for crawler in crawlers:
            read += len(crawler.recv(1))
        siege.serves()
        grown = max(grown, rss_bytes(pid) - before)
    print(f"{read} bytes read, {grown / MIB:.1f} MiB more")
    made = sum(entry.sent_bytes for entry in siege.worker.book())
    print(made / MIB)
    for crawler in crawlers:
        crawler.close()
    siege.judge()
    assert_nothing_left(siege)
    assert grown < clients * 2 * MIB, f"{grown / MIB:.0f} MiB kept for {len(crawlers)} clients that do not read"


def test_a_client_that_writes_a_byte_at_a_time(siege: Siege) -> None:
    """Slow is not wrong: it is answered; and one that stops in the middle holds nothing but its connection."""
    whole = request(siege.secret, max_tokens=5)
    stops = [connect(siege) for _ in range(16)]
    for number, client in enumerate(stops):
        client.sendall(whole[: len(whole) * (number + 1) // 20])
    crawler = connect(siege)
    crawler.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(whole)):
        crawler.sendall(whole[at : at + 1])
    assert crawler.recv(65536).startswith(b"HTTP/1.1 200")
    siege.serves()
    wait_at_rest(siege.gateway)
    for client in [*stops, crawler]:
        client.close()
    siege.judge()
    assert_nothing_left(siege)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_closes_its_own_half(siege: Siege, stream: bool) -> None:
    """After its request it says that it has nothing more to say. It is answered, or taken for gone; never forgotten."""
    clients = [connect(siege) for _ in range(16)]
    for client in clients:
        client.sendall(request(siege.secret, max_tokens=30, stream=stream))
        client.shutdown(socket.SHUT_WR)
    answers = [read_all(client) for client in clients]
    for client in clients:
        client.close()
    verdict = siege.judge()
    assert len(verdict.records) <= len(clients)
    complete = sum(answer.endswith(b"0\r\n\r\n") or b'"finish_reason"' in answer for answer in answers)
    assert complete in (0, len(clients)), f"{complete} of {len(clients)} were answered"
    assert_nothing_left(siege)


def read_all(client: socket.socket) -> bytes:
    pieces: list[bytes] = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)
