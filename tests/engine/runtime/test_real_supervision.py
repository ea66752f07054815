"""A real worker that a request has killed is back, and serves."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path

import pytest

from museway_engine.runtime.launch import Worker
from museway_engine.runtime.supervise import Backoff, Change, State, Supervisor
from processes import descendants, ended
from real_engine import cache_root
from real_engine_keeper import real_worker_in

pytestmark = [pytest.mark.engine, pytest.mark.faults]


def generate(worker: Worker, ids: list[int]) -> int:
    """The HTTP status; 0 where the connection broke."""
    connection = http.client.HTTPConnection(worker.host, worker.port, timeout=60)
    try:
        body = json.dumps({"input_ids": ids, "sampling_params": {"max_new_tokens": 2}})
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_a_worker_killed_by_a_request_comes_back(tmp_path: Path) -> None:
    worker = real_worker_in(tmp_path, cache_root())
    changes: list[Change] = []
    back = asyncio.Event()

    def on_change(change: Change) -> None:
        changes.append(change)
        if change.state is State.READY and change.restarts:
            back.set()

    async def main() -> list[int]:
        async with Supervisor([worker], on_change=on_change, backoff=Backoff(first_s=0.1)) as supervisor:
            await supervisor.ready()
            first = descendants(worker.pid or 0)
            # An id outside the vocabulary ends the whole server in 0.5.23 (why no client's ids are ever passed on).
            assert await asyncio.to_thread(generate, worker, [10**6]) != 200
            async with asyncio.timeout(300):
                await back.wait()
            assert ended(first)
            assert await asyncio.to_thread(generate, worker, [504, 3575]) == 200
            return descendants(worker.pid or 0)

    last = asyncio.run(main())
    assert len(last) >= 3
    assert ended(last, within_s=0)
    # It may be asked for its health while it is dying, or not.
    states = [change.state for change in changes if change.state is not State.UNHEALTHY]
    assert states == [
        State.STARTING,
        State.READY,
        State.WAITING,
        State.STARTING,
        State.READY,
        State.STOPPED,
    ]
