"""A client of each kind beside a server that answers by script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from doubles.scripted_server import ScriptedServer
from museway import AsyncMuseway, Museway, RetryPolicy

KEY = "mw_test_key"
QUICK = RetryPolicy(first_s=0.001, most_s=0.002)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Museway]:
    with Museway(KEY, base_url=server.url, retry=QUICK, timeout_s=5) as client:
        yield client


@pytest.fixture
async def async_client(server: ScriptedServer, anyio_backend: object) -> AsyncIterator[AsyncMuseway]:
    async with AsyncMuseway(KEY, base_url=server.url, retry=QUICK, timeout_s=5) as client:
        yield client
