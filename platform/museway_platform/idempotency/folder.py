"""Which folder of answers is this process's: gateways of one machine share a data directory, and each writes files of its own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path


@contextmanager
def own_folder(parent: Path) -> Generator[Path]:
    """The first folder below `parent` that no living process has; it is locked while the context is open.

    So a process that comes after another finds what that one kept; with several, each takes one of theirs.
    """
    for number in count():
        folder = parent / str(number)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        try:
            yield folder
        finally:
            os.close(fd)
        return
