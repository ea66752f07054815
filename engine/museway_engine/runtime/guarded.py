"""A process tree that ends with us: the starter's side of `guard`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_GUARD = Path(__file__).with_name("guard.py")

# Our settings hold secrets (database, Stripe, signing keys), and a virtual environment's variables would mislead
# another environment's interpreter.
_DROPPED = ("MUSEWAY_", "PYTHON", "VIRTUAL_ENV")

# Beyond `grace_s` the guard needs a moment to kill and sweep; past that it is itself taken for stuck.
_GUARD_MARGIN_S = 7.0


def _unlisted(order: str) -> BinaryIO:
    """The order in memory that only the guard is handed: the environment in it has secrets, and a command line is for
    everybody on the machine to read."""
    file = os.fdopen(os.memfd_create("order"), "w+b")
    file.write(order.encode())
    file.seek(0)
    return file


class Guarded:
    """A command and all that it starts. It ends when stopped, when this process ends (`kill -9` included), and on leaving `with`.

    Standard output and error are appended to `log`. The command gets this process's environment without our own
    settings, changed by `environment`. Not bound to a thread or an event loop. Does not restart anything.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 10.0,
        hold: Sequence[int] = (),
    ) -> None:
        """Start it. `hold`: descriptors (a lock's) to keep open until the last process of the tree is gone."""
        order = json.dumps(
            {
                "argv": list(argv),
                "set": dict(environment or {}),
                "drop": _DROPPED,
                "grace_s": grace_s,
                "hold": list(hold),
            }
        )
        self._grace_s = grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink, _unlisted(order) as told:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARD), str(told.fileno())],
                stdin=subprocess.PIPE,  # the life line: nothing is ever written to it
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a ^C at the terminal is ours to pass on, in order
                pass_fds=(*hold, told.fileno()),
            )

    @property
    def pid(self) -> int:
        """Of the guard; the command is its child."""
        return self._guard.pid

    def wait(self, timeout_s: float) -> int | None:
        """The exit status (128 + n: signal n ended it), or None if it still runs after `timeout_s` seconds."""
        try:
            code = self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._release()
        return code

    def poll(self) -> int | None:
        """`wait` without waiting."""
        code = self._guard.poll()
        if code is not None:
            self._release()
        return code

    def terminate(self) -> None:
        """Ask it to end; the guard kills what is left after the grace. Returns at once; harmless when it has ended."""
        self._guard.terminate()

    def kill(self) -> None:
        """Kill the guard itself; the command's first process dies with it. Only for a guard that does not answer."""
        self._guard.kill()

    def stop(self) -> int:
        """Terminate, wait, and kill in the end; the exit status. Blocks for at most the grace and a few seconds."""
        self.terminate()
        code = self.wait(self._grace_s + _GUARD_MARGIN_S)
        if code is None:
            self.kill()
            code = self._guard.wait()
            self._release()
        return code

    def abandon(self) -> int:
        """As `stop`, but as if this process had died: what is not gone within 3 seconds is killed, whatever the grace. For
        a command that is still starting, and has nothing to finish."""
        self._release()
        return self.stop()

    def _release(self) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
