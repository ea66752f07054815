"""Processes of a bench: started on one core, measured by what the kernel charged them, stopped with all their children."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_START_S = 120.0
_STOP_S = 20.0


class BenchProcess:
    """A command pinned to a core, in a session of its own; a context manager that leaves nothing running."""

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
        folder: Path,
        pipe_output: bool = False,
    ) -> None:
        words = shlex.split(command) if isinstance(command, str) else list(command)
        pinned = ["taskset", "-c", str(core), *words] if shutil.which("taskset") else words
        self._log = folder / "stderr.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                pinned,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe_output else subprocess.DEVNULL,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """SIGTERM to the command, which ends its children; SIGKILL to its whole session after 20 s."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def ended_early(self) -> RuntimeError:
        """The error to raise when it was not to end, with the end of what it said."""
        said = self._log.read_text(errors="replace")[-600:].strip()
        return RuntimeError(f"{self.process.args!r} ended: {said or 'it said nothing'}")

    def wait_port(self, port: int) -> None:
        """Until something listens there. Raises RuntimeError if the command ends before, TimeoutError after 120 s."""
        ends = time.monotonic() + _START_S
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                raise self.ended_early()
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError(f"nothing listens on {port}")


def tree(pid: int) -> list[int]:
    """The process and all below it that live."""
    found = [pid]
    for task in (_PROC / str(pid) / "task").glob("*/children"):
        found += [below for child in _read(task).split() for below in tree(int(child))]
    return found


def without_database(pids: Sequence[int]) -> list[int]:
    """Processes that are no PostgreSQL: a gateway that embeds its database is measured apart from it."""
    return [pid for pid in pids if not _read(_PROC / str(pid) / "comm").startswith("postgres")]


def cpu_ns(pids: Sequence[int]) -> int:
    """Time on a core of all their threads, as the scheduler counted it. Threads that ended are not in it."""
    lines = (_read(file) for pid in pids for file in (_PROC / str(pid) / "task").glob("*/schedstat"))
    return sum(int(line.split()[0]) for line in lines if line)


def memory_mib(pids: Sequence[int]) -> float:
    """Proportional set size: shared pages are shared out."""
    rows = (line for pid in pids for line in _read(_PROC / str(pid) / "smaps_rollup").splitlines())
    return sum(int(row.split()[1]) for row in rows if row.startswith("Pss:")) / 1024


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _read(file: Path) -> str:
    """A file of /proc; empty where the process has gone."""
    try:
        return file.read_text()
    except OSError:
        return ""
