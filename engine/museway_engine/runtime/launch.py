"""One worker: SGLang's processes, from launch to ready to gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

from museway_engine.runtime.flags import Command
from museway_engine.runtime.guarded import Guarded
from museway_engine.runtime.health import health
from museway_engine.runtime.progress import Progress

_POLL_S = 0.25
_HEALTH_TIMEOUT_S = 25.0  # more than the 20 s within which SGLang makes up its mind
_TAIL_LINES = 15
_READ_BYTES = 1 << 20  # all that SGLang writes before it serves is a tenth of this

# Lines of SGLang's log, in their order, and what a person may think of as happening from then on.
_MILESTONES = (
    ("Load weight begin", "Loading the model's weights"),
    ("Load weight end", "Allocating the KV cache"),
    ("Engine startup timings", "Warming up"),
)


class WorkerDied(Exception):
    """The worker's process ended by itself. `code`: its exit status (128 + n: signal n); `tail`: its last log lines."""

    def __init__(self, code: int, log: Path, tail: str) -> None:
        self.code, self.log, self.tail = code, log, tail
        super().__init__(f"the worker ended with status {code}; its log is {log}\n{tail}".rstrip())


class StartTimeout(Exception):
    """The worker was not ready after `timeout_s` seconds. It still runs: stop it."""

    def __init__(self, timeout_s: float, log: Path) -> None:
        self.timeout_s, self.log = timeout_s, log
        super().__init__(f"the worker was not ready after {timeout_s:.0f} s; its log is {log}")


class PortTaken(Exception):
    """Someone else listens on the port; a worker started there would die, and /health would be theirs."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        super().__init__(f"{host}:{port} is in use by another program")


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now. Not reserved: start what needs it soon."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


class Worker:
    """One SGLang server on a fixed address, which may be started again after it ended. Use from one event loop.

    The processes end with this one, `kill -9` included (`guard`). Does not watch or restart itself (`supervise`).
    """

    def __init__(
        self, command: Command, *, port: int, log: Path, host: str = "127.0.0.1", grace_s: float = 15.0
    ) -> None:
        """`log` is appended to. `grace_s`: from asking it to end until it is killed (SGLang takes 7 s)."""
        self.command, self.host, self.port, self.log, self.grace_s = command, host, port, log, grace_s
        self._process: Guarded | None = None
        self._began_at = 0  # this start's first byte in the log

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the process that guards the worker's; None when not started."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Launch it and return at once. Raises PortTaken. Must not be running."""
        assert not self.running, "started twice"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as SGLang does: TIME_WAIT is not "taken"
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise PortTaken(self.host, self.port) from error
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        self._process = Guarded(
            self.command.argv, log=self.log, environment=self.command.environment, grace_s=self.grace_s
        )

    async def wait_ready(self, progress: Progress, *, timeout_s: float = 600.0) -> None:
        """Return when it serves. Raises WorkerDied or StartTimeout; stops nothing itself."""
        began = time.monotonic()
        step_began, seen = began, -1
        progress.step("Starting SGLang")
        while time.monotonic() - began < timeout_s:
            self._raise_if_dead()
            reached = self._milestone()
            if reached > seen:
                progress.done(time.monotonic() - step_began, None)
                seen, step_began = reached, time.monotonic()
                progress.step(_MILESTONES[reached][1])
            if await health(self.host, self.port, timeout_s=_HEALTH_TIMEOUT_S) == 200 and self.running:
                progress.done(time.monotonic() - step_began, None)
                return
            await asyncio.sleep(_POLL_S)
        self._raise_if_dead()
        raise StartTimeout(timeout_s, self.log)

    async def exited(self) -> int:
        """Wait for its end; the exit status (128 + n: signal n). Must have been started. Cancelling it stops nothing."""
        assert self._process is not None, "never started"
        while (code := self._process.poll()) is None:
            # A descriptor that becomes readable when the process ends; the process is our unreaped child, so its number
            # cannot have been given to another one.
            descriptor = os.pidfd_open(self._process.pid)
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return code

    async def stop(self) -> int | None:
        """End it and all its children; the exit status, or None if it was never started. Harmless when it has ended.

        If the caller is cancelled while this waits, the worker is already asked to end and its guard sees it through.
        """
        if self._process is None:
            return None
        self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace_s + _POLL_S):
                return await self.exited()
        # The guard is killing the rest, which takes it a few seconds at most.
        return await asyncio.to_thread(self._process.stop)

    def tail(self) -> str:
        """The last lines that this start wrote to the log."""
        size = self.log.stat().st_size if self.log.exists() else 0
        return "\n".join(self._written(max(self._began_at, size - _READ_BYTES)).splitlines()[-_TAIL_LINES:])

    def _written(self, start: int) -> str:
        try:
            with self.log.open("rb") as source:
                source.seek(start)
                return source.read(_READ_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def _milestone(self) -> int:
        written = self._written(self._began_at)
        return max((number for number, (line, _) in enumerate(_MILESTONES) if line in written), default=-1)

    def _raise_if_dead(self) -> None:
        assert self._process is not None, "never started"
        if (code := self._process.poll()) is not None:
            raise WorkerDied(code, self.log, self.tail())
