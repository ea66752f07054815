"""Which processes there are, as the kernel says; for tests about what must be gone."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable
from pathlib import Path


def marked(text: str) -> list[int]:
    """Living processes with `text` (NAME=VALUE) in the environment they were started with. Zombies don't count.

    Misses those that write their own title over it, as SGLang's children do: see `descendants`.
    """
    found = list[int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
                state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            except OSError:
                continue
            if text.encode() in environment.split(b"\0") and state != "Z":
                found.append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """The living processes below `pid`, itself not among them."""
    parents = dict[int, int]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # The name stands in parentheses and may hold anything; state and parent are the words after it.
                state, parent = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(folder.name)] = int(parent)
    found, pending = list[int](), [pid]
    while pending:
        above = pending.pop()
        below = [child for child, parent in parents.items() if parent == above]
        found, pending = found + below, pending + below
    return found


def ended(pids: Iterable[int], *, within_s: float = 10.0) -> bool:
    """Whether all these processes end in time; those already gone count."""
    deadline = time.monotonic() + within_s
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(descriptor)
    return True
