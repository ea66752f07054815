"""`museway` as a process of its own, and what of it is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

from museway_platform.database.embedded import remove

_MARK = "PYTEST_MUSEWAY_MARK"


@contextlib.contextmanager
def data_folder() -> Generator[Path]:
    """A data directory that PostgreSQL's unprivileged user can reach when we are root; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="museway-test-"))
    folder.chmod(0o711)
    try:
        yield folder / "data"
    finally:
        remove(folder / "data")
        folder.rmdir()


class Program:
    """`museway …` with only the settings given. Leaving the context kills it and asserts that nothing of it is left."""

    def __init__(self, *arguments: str, settings: dict[str, str], folder: Path) -> None:
        self.mark, self.folder = uuid.uuid4().hex, folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSEWAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "museway_platform", *arguments],
            env=kept | settings | {_MARK: self.mark, "MUSEWAY_DATA_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
            bufsize=0,  # `select` does not see lines that wait in a buffer
        )

    def line(self, deadline_s: float = 60.0) -> str:
        """The next line of standard output. Raises AssertionError with standard error where there is none."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], deadline_s)
        text = self.process.stdout.readline().decode() if ready else ""
        if not text:
            self.process.kill()
            _, said = self.process.communicate()
            raise AssertionError(f"said nothing in {deadline_s:.0f} s; standard error: {said.decode()}")
        return text

    def ready(self, deadline_s: float = 60.0) -> dict[str, str]:
        """The JSON line of `up --json`."""
        return json.loads(self.line(deadline_s))

    def runs_for(self, seconds: float) -> None:
        """Let it run so long. The moment is the point here, not a thing to wait for. AssertionError where it ends before."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"it ended by itself: {self.process.communicate()}")

    def end(self, number: signal.Signals, deadline_s: float = 60.0) -> tuple[int, str]:
        """Send a signal; the exit status (minus n: signal n) and what was said on standard error."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=deadline_s)
        return self.process.returncode, said.decode()

    def left(self) -> dict[int, str]:
        """Processes that descend from it: by the mark they inherited, or by the data directory they work in."""
        return {pid: command for pid, command in _commands() if pid != os.getpid() and self._is_ours(pid, command)}

    def wait_gone(self, deadline_s: float) -> None:
        """Return when nothing of it is left. Raises AssertionError that names what is."""
        until = time.monotonic() + deadline_s
        while left := self.left():
            for pid in left:
                _wait_for_end(pid, until)
            assert time.monotonic() < until, f"left after {deadline_s:.0f} s: {left}"

    def _is_ours(self, pid: int, command: str) -> bool:
        if str(self.folder) in command:
            return True
        try:
            return f"{_MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.wait_gone(20.0)


def _commands() -> Iterator[tuple[int, str]]:
    """Process ids with their command lines; zombies have none, and are nobody's."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command:
                    yield int(entry.name), command


def _wait_for_end(pid: int, until: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
        finally:
            os.close(descriptor)
