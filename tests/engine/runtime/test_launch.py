"""One worker's life, with a stub in SGLang's place."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from doubles.stub_engine import Recorder, StubEngine
from museway_engine.runtime.health import health
from museway_engine.runtime.launch import PortTaken, StartTimeout, WorkerDied, free_port
from museway_engine.runtime.progress import Silent
from processes import ended

pytestmark = pytest.mark.faults


def test_it_is_ready_when_health_says_so_and_stops_with_all_its_children(stub: StubEngine, recorder: Recorder) -> None:
    async def life() -> int | None:
        stub.says("200 brood")
        stub.worker.start()
        await stub.worker.wait_ready(recorder)
        assert stub.worker.running
        assert len(stub.processes()) == 3
        return await stub.worker.stop()

    assert asyncio.run(life()) == 128 + signal.SIGTERM
    assert stub.processes() == []
    assert not stub.worker.running
    # Which milestones are seen depends on when the log is read; that every step begun has ended does not.
    assert recorder.steps[0] == "Starting SGLang"
    assert recorder.finished == len(recorder.steps)


def test_one_that_is_deaf_is_killed(tmp_path: Path) -> None:
    stub = StubEngine(tmp_path, grace_s=0.2)

    async def life() -> int | None:
        stub.says("200 deaf brood")
        stub.worker.start()
        await stub.worker.wait_ready(Silent())
        return await stub.worker.stop()

    assert asyncio.run(life()) == 128 + signal.SIGKILL
    assert stub.processes() == []


def test_one_that_dies_at_start_says_why(stub: StubEngine) -> None:
    stub.worker.log.write_text("a line of an earlier start\n")

    async def life() -> None:
        stub.says("200 die:3")
        stub.worker.start()
        await stub.worker.wait_ready(Silent())

    with pytest.raises(WorkerDied) as caught:
        asyncio.run(life())
    assert caught.value.code == 3
    assert caught.value.tail == "about to die\nthe last line"
    assert str(caught.value).startswith(f"the worker ended with status 3; its log is {stub.worker.log}\n")


def test_503_is_not_ready(stub: StubEngine) -> None:
    async def life() -> None:
        stub.says("503")
        stub.worker.start()
        try:
            await stub.worker.wait_ready(Silent(), timeout_s=1.0)
        finally:
            assert stub.worker.running
            await stub.worker.stop()

    with pytest.raises(StartTimeout):
        asyncio.run(life())


def test_a_port_in_use_is_refused_before_anything_starts(stub: StubEngine) -> None:
    with socket.create_server(("127.0.0.1", stub.worker.port)), pytest.raises(PortTaken):
        stub.worker.start()
    assert not stub.worker.running
    assert stub.worker.pid is None
    assert asyncio.run(stub.worker.stop()) is None


def test_it_can_be_started_again_on_the_same_port(stub: StubEngine) -> None:
    async def life() -> None:
        for _ in range(2):
            stub.worker.start()
            await stub.worker.wait_ready(Silent())
            await stub.worker.stop()
            await stub.worker.stop()

    asyncio.run(life())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_exited_tells_of_a_death_and_can_be_cancelled(
    stub: StubEngine, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def life() -> int:
        stub.worker.start()
        await stub.worker.wait_ready(Silent())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await stub.worker.exited()
        assert stub.worker.running
        for pid in stub.processes():
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            return await stub.worker.exited()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(life()) == 128 + signal.SIGKILL


_OWNER = """
import asyncio, sys
from pathlib import Path
from doubles.stub_engine import StubEngine
from museway_engine.runtime.progress import Silent
async def main():
    stub = StubEngine(Path(sys.argv[1]), grace_s=60)
    stub.says("200 deaf brood")
    stub.worker.start()
    await stub.worker.wait_ready(Silent())
    print(*stub.processes(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_kill_9_of_the_owner_leaves_nothing(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=tests
    )
    assert owner.stdout is not None
    family = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(family) == 3
    owner.kill()
    owner.communicate()
    assert ended(family, within_s=10)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/1.1 200"])
def test_what_is_not_an_answer_is_none(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async def ask() -> int | None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await health("127.0.0.1", server.sockets[0].getsockname()[1], timeout_s=5)

    assert asyncio.run(ask()) is None


def test_nobody_there_and_nobody_answering_are_none(stub: StubEngine) -> None:
    async def ask() -> tuple[int | None, int | None]:
        nobody = await health("127.0.0.1", free_port(), timeout_s=5)
        stub.worker.start()
        await stub.worker.wait_ready(Silent())
        stub.says("hang")
        silent = await health(stub.worker.host, stub.worker.port, timeout_s=0.2)
        await stub.worker.stop()
        return nobody, silent

    assert asyncio.run(ask()) == (None, None)
