"""Files of frames: one is appended to, older ones are only read, the oldest go. Everything here blocks: run it in a thread.

Each file is allocated whole, with room kept back for marks: on a full disk an answer can't be kept any more, but that it
was given still can, so that its key never runs twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from museway_platform.idempotency.frame import HEADER_BYTES, Header

SEGMENT_BYTES: Final = 8 << 20
KEPT_BACK_BYTES: Final = 64 << 10
"""Room in each file for marks alone: 600 of them."""
_SUFFIX: Final = ".answers"


class NoRoom(Exception):
    """The disk is full."""


class Place(Struct, frozen=True):
    segment: int
    offset: int


class Segments:
    """A folder of them; at most one process writes here. `written` is how much the files take, in bytes."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sizes = {int(path.stem): path.stat().st_size for path in sorted(folder.glob(f"*{_SUFFIX}"))}
        self._last = max(self.sizes, default=0)
        self._fd: int | None = None
        self._end = 0

    @property
    def written(self) -> int:
        return sum(self.sizes.values())

    @property
    def current(self) -> int | None:
        """The file that is appended to."""
        return None if self._fd is None else self._last

    def read_headers(self, number: int) -> Iterator[tuple[Place, Header]]:
        """Every frame's header in one file, oldest first, as far as they check."""
        with self._path(number).open("rb") as file:
            offset = 0
            while (header := Header.decode(file.read(HEADER_BYTES))) is not None:
                yield Place(number, offset), header
                offset += HEADER_BYTES + header.size
                file.seek(offset)

    def read(self, place: Place) -> tuple[Header, bytes] | None:
        """The header and the whole frame; None where the file is gone or damaged."""
        try:
            with self._path(place.segment).open("rb") as file:
                file.seek(place.offset)
                first = file.read(HEADER_BYTES)
                header = Header.decode(first)
                return None if header is None else (header, first + file.read(header.size))
        except OSError:
            return None

    def append(self, frame: bytes, *, is_mark: bool) -> Place:
        """Not durable before `sync`. Raises NoRoom."""
        if len(frame) > self._room(is_mark):
            self.begin(len(frame))
        assert self._fd is not None
        place = Place(self._last, self._end)
        os.pwrite(self._fd, frame, self._end)
        self._end += len(frame)
        return place

    def sync(self) -> None:
        if self._fd is not None:
            os.fdatasync(self._fd)

    def remove(self, number: int) -> None:
        del self.sizes[number]
        self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the unused part of the last file."""
        if self._fd is not None:
            os.ftruncate(self._fd, self._end)
            self.sizes[self._last] = self._end
            os.close(self._fd)
            self._fd = None

    def _room(self, is_mark: bool) -> int:
        if self._fd is None:
            return 0
        return self.sizes[self._last] - self._end - (0 if is_mark else KEPT_BACK_BYTES)

    def begin(self, frame: int = 0) -> None:
        """Go on in a new file that holds a frame of this size. Raises NoRoom."""
        number, size = self._last + 1, max(self._segment_bytes, frame + KEPT_BACK_BYTES)
        path = self._path(number)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            self._sync_folder()
        except OSError as error:
            os.close(fd)
            path.unlink()
            raise NoRoom(str(error.strerror)) from error
        self.sync()
        self.close()
        self._fd, self._last, self._end = fd, number, 0
        self.sizes[number] = size

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}{_SUFFIX}"

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
