"""Runs one command that can't outlive whoever started it. A program of its own, standard library only:

    python -I -S guard.py 5     (a descriptor to read the order from, so that no secret of it is on a command line)
    {"argv": [...], "set": {"NAME": "VALUE"}, "drop": ["PREFIX"], "grace_s": 10, "hold": [7]}

Without it, `kill -9` of the gateway leaves SGLang's processes behind with 4 GB and a port. PR_SET_PDEATHSIG alone is
not enough: it follows the *thread* that forked, not the process; it reaches one generation; and setting it needs Python
code between fork and exec, which deadlocks in a process with threads. So:

- Standard input is a life line: the starter holds the other end of the pipe, the kernel closes it when the starter is
  gone, however it went. End of file here stops the command.
- This process has one thread, so it may fork and set PR_SET_PDEATHSIG for its child: if the guard itself is killed, the
  command dies too.
- As a sub-reaper it inherits every orphan below it: when the command has ended, what is left of its tree is killed.

TERM and INT ask the command to stop (TERM), and kill it `grace_s` seconds later; end of the life line waits at most
LIFELINE_GRACE_S, because nobody is left to read an answer. `set` and `drop` (prefixes) change the environment that the
command gets; `hold` names inherited descriptors (a lock) that stay open as long as the guard lives, but not in the
command. Exits with the command's status, 128 + n if signal n ended it, 127 if it could not be started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIFELINE_GRACE_S = 3.0
SWEEP_S = 5.0


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def start(order: dict[str, Any], guard: int) -> int:
    """Fork and exec the command in a process group of its own; its pid."""
    pid = os.fork()
    if pid != 0:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here too: whoever comes first, the group exists before anyone kills it
        return pid
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # the guard died before the line above
            os._exit(127)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        dropped = tuple(order["drop"])
        kept = {name: value for name, value in os.environ.items() if not (dropped and name.startswith(dropped))}
        os.execvpe(order["argv"][0], order["argv"], kept | order["set"])
    except OSError as error:
        os.write(2, f"{order['argv'][0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def reap(command: int) -> int | None:
    """Collect every child that has ended; the command's exit status if it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == command:
                code = os.waitstatus_to_exitcode(status)
    return code


def orphans() -> list[int]:
    """The children of this process, those it inherited too."""
    me, found = os.getpid(), list[int]()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="latin-1") as stat:
                # The command name stands in parentheses and may contain anything; the parent is the second word after.
                if int(stat.read().rpartition(")")[2].split()[1]) == me:
                    found.append(int(name))
    return found


def sweep() -> None:
    """Kill whatever is left of the tree, generation by generation, for at most SWEEP_S seconds."""
    deadline = time.monotonic() + SWEEP_S
    while time.monotonic() < deadline and (left := orphans()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap(0)
        time.sleep(0.01)


def watch(command: int, wakeup: int, grace_s: float) -> int:
    """Wait for the command's end, its life line's end or a signal; the exit status."""
    deadline: float | None = None
    sources = [0, wakeup]
    while True:
        if (code := reap(command)) is not None:
            return code
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if left == 0.0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command, signal.SIGKILL)
            _, status = os.waitpid(command, 0)
            return os.waitstatus_to_exitcode(status)
        readable, _, _ = select.select(sources, [], [], left)
        asked: float | None = None
        if 0 in readable and not os.read(0, 1):
            sources, asked = [wakeup], min(grace_s, LIFELINE_GRACE_S)
        if wakeup in readable and {signal.SIGTERM, signal.SIGINT} & set(os.read(wakeup, 64)):
            asked = grace_s if asked is None else asked
        if asked is not None:
            if deadline is None:
                os.kill(command, signal.SIGTERM)
            deadline = min(deadline or float("inf"), time.monotonic() + asked)


def noted(number: int, frame: FrameType | None) -> None:
    """A handler must exist for the number to be written to the wake-up descriptor."""


def main() -> int:
    with open(int(sys.argv[1]), "rb") as told:
        order = json.load(told)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    for descriptor in order["hold"]:
        os.set_inheritable(descriptor, False)
    wakeup, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, noted)
    code = watch(start(order, os.getpid()), wakeup, order["grace_s"])
    sweep()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
