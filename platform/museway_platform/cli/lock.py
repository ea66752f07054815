"""One `up` per data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from museway_platform.cli.prompt import Failure


@contextlib.contextmanager
def data_directory(folder: Path) -> Generator[Path]:
    """Make `folder` and hold it for this process. Raises Failure, with the other's process id, while another has it.

    The kernel frees the lock with the process, so a crash leaves nothing to clear away. The file stays.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Failure(f"cannot use the data directory {folder}: {error.strerror}; set MUSEWAY_DATA_DIR") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield folder
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
        raise Failure(f"{folder} is in use by another `museway up` (process {holder})") from error
    finally:
        os.close(descriptor)
