"""The cache folder: what is expensive to make and the same for everyone who needs it.

    engines/<key>/            a virtual environment; `complete` inside says that it may be used
    models/<name>-<key>/      a model's directory; its manifest.json names each file's SHA-256
    locks/<entry>             held by whoever makes or checks the entry; its text says who that is
    logs/                     what the tools printed

A key is the hash of everything that went in, so an entry never changes, an upgrade makes a new one beside the old, and
two versions of Museway share a machine. Nothing removes old entries; deleting the folder is always safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from museway_engine.runtime.progress import Progress

_POLL_S = 0.2


def default_root() -> Path:
    """Where the cache lies if nobody said: /var/cache/museway as root, else ~/.cache/museway. Makes nothing."""
    return Path("/var/cache/museway") if os.geteuid() == 0 else Path.home() / ".cache" / "museway"


def fingerprint(*parts: bytes | str) -> str:
    """16 hexadecimal digits over `parts`, each delimited, so that moving a byte between parts changes the result."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def size_of(*folders: Path) -> int:
    """Bytes of all files below, as listed; 0 for a folder that is not there. What vanishes meanwhile is not counted."""
    total, pending = 0, [str(folder) for folder in folders]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total


class Cache(msgspec.Struct, frozen=True):
    """The folder at `root`. Making one touches nothing; folders appear when they are needed."""

    root: Path

    def engine(self, key: str) -> Path:
        return self.root / "engines" / key

    def model(self, name: str, key: str) -> Path:
        return self.root / "models" / f"{name}-{key}"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def locked(self, entry: str, *, purpose: str, progress: Progress) -> Generator[int]:
        """Hold the lock of `entry`; gives its descriptor, for children that must be gone before anyone else goes on.

        Waits without end for whoever has it, telling `progress` who that is and what for. The kernel frees it when the
        last process that has the descriptor is gone, so no lock outlives a crash and none needs breaking.
        """
        path = self.root / "locks" / entry
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _acquire(descriptor, progress)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}, which {purpose}".encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)


def _acquire(descriptor: int, progress: Progress) -> None:
    """Polls instead of blocking in the kernel: then a second waiter learns of a change of holder too."""
    began, told = time.monotonic(), ""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace")
            if holder and holder != told:
                progress.step(f"Waiting for {holder}")
                told = holder
            time.sleep(_POLL_S)
        else:
            if told:
                progress.done(time.monotonic() - began, None)
            return


def remove(folder: Path) -> None:
    """Delete a folder and all in it; a symbolic link at its place is deleted, not followed. No error if it is not there."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
