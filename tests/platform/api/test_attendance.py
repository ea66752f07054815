"""A client that leaves is noticed, whenever it does; a body that does not come is given up."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from litestar.types import HTTPReceiveMessage

from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway
from museway_platform.api.attendance import Attendance, ClientGone
from museway_platform.api.errors import ApiError

ABORT_S = 0.25


class Client:
    """The receiving half of ASGI: says nothing until the client leaves, then says so for ever."""

    def __init__(self) -> None:
        self.asked = 0
        self._left = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> HTTPReceiveMessage:
        self.asked += 1
        await self._left.wait()
        return {"type": "http.disconnect"}


async def for_ever(visit: Any) -> None:
    with visit as here:
        here.has_body()
        await asyncio.Event().wait()


@pytest.mark.anyio
async def test_a_client_that_leaves_at_once_or_later_is_noticed_in_time() -> None:
    attendance, loop = Attendance(), asyncio.get_running_loop()
    early, late = Client(), Client()

    async def serve(client: Client, leaves_at: float) -> float:
        loop.call_at(leaves_at, client.leave)
        with pytest.raises(ClientGone):
            await for_ever(attendance.visit(client.receive))
        return loop.time() - leaves_at

    now = loop.time()
    for noticed in await asyncio.gather(serve(early, now), serve(late, now + 0.3)):
        assert noticed < ABORT_S


@pytest.mark.anyio
async def test_who_is_answered_soon_is_never_watched() -> None:
    attendance, client = Attendance(), Client()
    with attendance.visit(client.receive) as visit:
        visit.has_body()
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert client.asked == 0


@pytest.mark.anyio
async def test_a_body_that_does_not_come_is_given_up() -> None:
    attendance = Attendance(body_s=0.1)
    with pytest.raises(ApiError) as refused, attendance.visit(Client().receive):
        await asyncio.Event().wait()
    assert refused.value.code == "request_timeout"


@pytest.mark.anyio
async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    attendance, client = Attendance(), Client()
    # tidy: allow task: cancelled and awaited below
    task = asyncio.create_task(for_ever(attendance.visit(client.receive)))
    asyncio.get_running_loop().call_later(0.02, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("stream", [False, True])
def test_the_worker_is_freed_when_the_client_leaves(
    start_gateway: StartGateway, fake_worker: FakeWorker, stream: bool
) -> None:
    """The client is gone before an answer has begun, and its request is ended at the worker."""
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=200, delay_ms=50))
    body = json.dumps(
        {"model": "muse", "messages": [{"role": "user", "content": "x"}], "max_tokens": 200, "stream": stream}
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {customer.secret}\r\n"
    before = len(fake_worker.book("req_"))
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        wait_until(lambda: len(fake_worker.book("req_")) > before)
    left = time.monotonic()
    wait_until(lambda: fake_worker.book("req_")[-1].ended is not None)
    ended = fake_worker.book("req_")[-1].ended
    assert ended is not None
    assert ended - left < ABORT_S  # one machine, one monotonic clock


def wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends
