"""The fake worker as a child process of a test: start, control, read its book, kill."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field, structs

from doubles.fake_worker.book import Entry
from doubles.fake_worker.engine import Counters
from doubles.fake_worker.options import Options
from doubles.fake_worker.script import Behaviour, Match, Rule, Script, ServerState

__all__ = ["Behaviour", "Entry", "FakeWorker", "Match", "Options", "ServerState"]

_TESTS = Path(__file__).resolve().parent.parent
_ANSWER_S = 10.0
_STOP_S = 5.0
_T = TypeVar("_T")


class BookPage(Struct):
    """`GET /_book`."""

    entries: list[Entry]
    refused: int
    """Requests that were never run: scripted refusals and a full queue."""
    live: list[str]
    counters: Counters


class Seen(Struct):
    """One request as it arrived: what the gateway really sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class _SeenPage(Struct):
    requests: list[Seen] = field(default_factory=list[Seen])


class FakeWorker:
    """A fake worker's process; a context manager, plain or async.

    It ends with this process, however that ends (its standard input closes). The port is free at the start and kept by
    `restart()`. Controls are small blocking calls on loopback; they raise OSError where the worker is gone.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @classmethod
    def at(cls, url: str) -> Self:
        """The controls of a worker that somebody else started and will stop."""
        worker = cls()
        worker.url = url.rstrip("/")
        return worker

    # -- life
    def start(self) -> None:
        """Start and wait until it listens. Raises RuntimeError with what it said where it does not."""
        assert self._process is None, "already started"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "doubles.fake_worker", *_flags(self._options), "--exit-with-stdin"],
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end()
            raise RuntimeError("the fake worker ended before it listened; its error is above")
        self.url = str(json.loads(line)["url"])

    def stop(self) -> None:
        """End it with SIGTERM, with SIGKILL after 5 s; nothing is left. Stopping twice is fine."""
        if self._process is not None:
            self._process.terminate()
            self._end()

    def kill(self) -> None:
        """End it as `kill -9` does; its connections are reset or closed by the kernel."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._end()

    def pause(self) -> None:
        """Stop the process without ending it: connections stand and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """End it at once and start another, empty one on the same port."""
        port = urlsplit(self.url).port or 0
        self.kill()
        self._options = structs.replace(self._options, port=port)
        self.start()

    def wait_dead(self, deadline_s: float = 10.0) -> None:
        """Wait for an end that a script brought about. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        self._process.wait(deadline_s)
        self._end()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    # -- controls
    def book_page(self, rid: str = "") -> BookPage:
        """The book and what stands around it; `rid` is a prefix."""
        return self._call("GET", f"/_book?rid={rid}", BookPage)

    def book(self, rid: str = "") -> list[Entry]:
        """The calls whose rid begins so, in the order in which they came."""
        return self.book_page(rid).entries

    def by_rid(self) -> dict[str, Entry]:
        """Ended and live calls by their rid; of a rid that was used twice, the later."""
        return {entry.rid: entry for entry in self.book()}

    def requests(self) -> list[Seen]:
        """The last 2,000 bodies that came in."""
        return self._call("GET", "/_requests", _SeenPage).requests

    def script(self, do: Behaviour, match: Match | None = None, *, times: int | None = None) -> None:
        """Behave so for the requests that match (all), as often as told (always); the rule added last wins."""
        self._script(Script(rules=[Rule(match=match or Match(), do=do, times=times)]))

    def set_server(self, state: ServerState) -> None:
        """Set the state of the server as a whole, such as its health."""
        self._script(Script(server=state))

    def reset(self) -> None:
        """Forget book, rules, prefix cache and server state; what runs goes on."""
        self._call("POST", "/_reset", dict[str, Any])

    def wait_idle(self, deadline_s: float = 10.0) -> list[Entry]:
        """The book, once no call is live. Raises TimeoutError naming what still runs."""
        self._call("GET", f"/_wait?deadline_s={deadline_s}", dict[str, Any], patience_s=deadline_s)
        return self.book()

    def wait_for(self, rid: str, *, tokens: int = 0, deadline_s: float = 10.0) -> None:
        """Wait until a call whose rid begins so is in the book and has made so many tokens. Raises TimeoutError."""
        path = f"/_wait?rid={rid}&tokens={tokens}&deadline_s={deadline_s}"
        self._call("GET", path, dict[str, Any], patience_s=deadline_s)

    def _script(self, script: Script) -> None:
        self._call("POST", "/_script", dict[str, Any], msgspec.json.encode(script))

    def _call(self, method: str, path: str, kind: type[_T], body: bytes = b"", *, patience_s: float = 0.0) -> _T:
        target = urlsplit(self.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=_ANSWER_S + patience_s)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status == 408:
            raise TimeoutError(data.decode())
        if answer.status != 200:
            raise ValueError(f"{method} {path}: {answer.status} {data.decode()}")
        return msgspec.json.decode(data, type=kind)


def _flags(options: Options) -> list[str]:
    flags: list[str] = []
    for name in Options.__struct_fields__:
        value, flag = getattr(options, name), name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", str(value)]
    return [flag for flag in flags if not flag.endswith("exit-with-stdin")]
