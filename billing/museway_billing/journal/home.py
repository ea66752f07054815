"""A process's journal folder: whose it is (a lock that dies with its process) and in which epoch.

The lock is flock on a file of the folder: free means that the process is dead on this host, whatever its pid says. The
epoch counts how often the folder changed hands; PostgreSQL's registry refuses an owner with an old one (`drain.py`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path
from types import TracebackType
from zlib import crc32

from museway_billing.journal.format import FORMAT_VERSION, READABLE, JournalDamaged, OtherVersion
from museway_billing.journal.keeping import retire_all


class Home:
    """A locked folder. `id` is its name, unique for ever; leaving the context frees the lock."""

    def __init__(self, path: Path, lock: int, epoch: int, version: str = str(FORMAT_VERSION)) -> None:
        self.path = path
        self.id = path.name
        self.epoch = epoch
        self.is_damaged = False
        """Its epoch could not be read; it was set to one that is later than any it can have had."""
        self._version = version
        self._lock = lock

    @classmethod
    def create(cls, directory: Path, process: str) -> Home:
        """A new folder in epoch 1, named after the process and a random number. Until it has an epoch it does not count:
        somebody who claims dead folders may take the unborn one for a leftover, and another one is made."""
        while True:
            path = directory / f"{process}-{secrets.token_hex(4)}"
            path.mkdir(parents=True, mode=0o700)
            lock = _lock(path)
            if lock is None or os.fstat(lock).st_nlink == 0:
                continue
            home = cls(path, lock, 1)
            home._write_epoch()
            sync_folder(directory)
            return home

    @classmethod
    def claim(cls, path: Path) -> Home | None:
        """Take over a folder whose process is dead: its epoch is one higher, durably, before this returns.

        None where the process lives, or where somebody else has just finished with the folder. Raises OtherVersion.
        """
        lock = _lock(path)
        if lock is None:
            return None
        if not (path / "epoch").exists():
            # It died in `create` or in `remove`: it holds nothing that is not in PostgreSQL.
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            return None
        try:
            epoch, version = _read_epoch(path)
            home = cls(path, lock, epoch + 1, version)
        except OtherVersion:
            os.close(lock)
            raise
        except JournalDamaged:
            home = cls(path, lock, int(time.time()))  # claims are counted one by one: none has come this far
            home.is_damaged = True
        home._write_epoch()
        return home

    def _write_epoch(self) -> None:
        body = f"{self.id} {self.epoch} {self._version}"
        new = self.path / "epoch.new"
        with new.open("w") as file:
            file.write(f"{body} {crc32(body.encode())}\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.path / "epoch")
        sync_folder(self.path)

    def remove(self) -> None:
        """Delete the folder: everything in it is in PostgreSQL. The lock is freed last."""
        retire_all(self.path)
        (self.path / "epoch").unlink(missing_ok=True)
        shutil.rmtree(self.path)
        self.release()

    def release(self) -> None:
        """Free the lock and leave the folder for whoever claims it. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def sync_folder(path: Path) -> None:
    """Make names in the folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lock(path: Path) -> int | None:
    """The folder's lock, None where somebody has it or the folder is gone."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def check_version(path: Path) -> None:
    """Raises OtherVersion for a folder that this program may not read; a damaged epoch says nothing."""
    try:
        _read_epoch(path)
    except OtherVersion:
        raise
    except JournalDamaged:
        return


def _read_epoch(path: Path) -> tuple[int, str]:
    """The epoch and the format version. Raises JournalDamaged, OtherVersion."""
    words = (path / "epoch").read_text(errors="replace").split()
    body = " ".join(words[:3])
    if len(words) != 4 or words[3] != str(crc32(body.encode())) or words[0] != path.name:
        raise JournalDamaged(path / "epoch", "is not whole")
    if words[2] not in map(str, READABLE):
        raise OtherVersion(path / "epoch", words[2])
    return int(words[1]), words[2]
