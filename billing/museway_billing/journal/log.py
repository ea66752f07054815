"""The log: records appended by the event loop, made durable in groups by one thread.

All decisions (sequence, segment, offset, room) are taken synchronously on the loop; the thread only writes bytes where it
was told to, syncs, and wakes everybody whose record is now durable. While one fdatasync runs the next group gathers, so no
linger is needed.

Room is counted in whole frames of the largest size: `reserve` allocates the disk blocks a record will need before its
call begins. A preallocated block cannot fail with ENOSPC later.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from museway_billing.journal.errors import JournalBroken, JournalClosed, JournalFull
from museway_billing.journal.format import (
    FRAME_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    make_frame,
    segment_header,
    segment_path,
)

SEGMENT_BYTES_MIN = SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX

WhenEnded: TypeAlias = Callable[[JournalBroken | None], None]
"""Called on the loop, once: the record is durable (None), or never will be. May not raise."""


class _Segment(Struct, eq=False):
    """A preallocated file. `end`: where the next frame goes. `first` is None until it has one: its name says it."""

    fd: int
    path: Path
    size: int
    first: int | None = None
    end: int = SEGMENT_HEADER_BYTES
    synced: bool = False

    @property
    def frames_left(self) -> int:
        """How many frames of the largest size still fit; smaller ones only leave more."""
        return max(self.size - self.end, 0) // FRAME_BYTES_MAX


class _Write(Struct, eq=False):
    segment: _Segment
    offset: int
    data: bytes
    sequence: int
    ended: WhenEnded


class Log:
    """Belongs to the event loop that made it. `next_sequence` is the number that the next record gets."""

    def __init__(self, home: Path, *, next_sequence: int, segment_bytes: int) -> None:
        """Allocate the first segment. Raises JournalFull."""
        assert segment_bytes >= SEGMENT_BYTES_MIN
        self._home = home
        self._segment_bytes = segment_bytes
        self._loop = asyncio.get_running_loop()
        self._segments: deque[_Segment] = deque()
        self._spares = 0
        self._reserved = 0
        self.next_sequence = next_sequence
        self.durable_sequence = next_sequence - 1
        self.failure: OSError | None = None
        self._queue: list[_Write] = []
        self._writing: _Segment | None = None
        self._closing = False
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._write_groups, name="museway-journal", daemon=True)
        self._allocate()
        self._thread.start()

    # -- room ---------------------------------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Set aside room for one record. Raises JournalFull, JournalBroken, JournalClosed."""
        if self.failure is not None or self._closing:
            self._check()
        last = self._segments[-1]
        room = (last.size - last.end) // FRAME_BYTES_MAX  # `frames_left`, nearly always enough by itself
        if room <= self._reserved and sum(segment.frames_left for segment in self._segments) <= self._reserved:
            self._allocate()
        self._reserved += 1

    def unreserve(self) -> None:
        """Give back the room of a record that will not be written."""
        assert self._reserved > 0
        self._reserved -= 1

    def _allocate(self) -> None:
        self._spares += 1
        path = self._home / f"spare-{self._spares}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalFull(f"segment: {error.strerror}") from error
        try:
            os.posix_fallocate(fd, 0, self._segment_bytes)
        except OSError as error:
            os.close(fd)
            path.unlink()
            raise JournalFull(f"segment: {error.strerror}") from error
        self._segments.append(_Segment(fd, path, self._segment_bytes))

    # -- records ------------------------------------------------------------------------------------------------------

    def append(self, payload: bytes, ended: WhenEnded) -> int:
        """Queue one record against one reservation, which it uses up; its sequence. Never suspends, never fails for want
        of room. Raises JournalBroken, JournalClosed; then `ended` is not called."""
        if self.failure is not None or self._closing:
            self._check()
        assert self._reserved > 0, "a record without a reservation"
        self._reserved -= 1
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        data = make_frame(sequence, payload)
        segment = self._segment_for(len(data), sequence)
        write = _Write(segment, segment.end, data, sequence, ended)
        segment.end += len(data)
        with self._lock:
            self._check()
            if not self._queue:
                self._wake.notify()  # the thread takes all there is: it waits for a first record only
            self._queue.append(write)
        return sequence

    def _segment_for(self, size: int, sequence: int) -> _Segment:
        while self._segments[0].end + size > self._segments[0].size:
            self._segments.popleft()
        segment = self._segments[0]
        if segment.first is None:
            segment.first = sequence
        return segment

    def _check(self) -> None:
        if self.failure is not None:
            raise JournalBroken(str(self.failure)) from self.failure
        if self._closing:
            raise JournalClosed

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _write_groups(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                group, self._queue = self._queue, []
            if not group:
                return
            try:
                self._write(group)
            except OSError as error:
                with self._wake:
                    self.failure = error
                    group += self._queue
                    self._queue = []
                self._loop.call_soon_threadsafe(_fail, group, error)
                return
            self._loop.call_soon_threadsafe(self._wake_group, group)

    def _write(self, group: list[_Write]) -> None:
        touched: list[_Segment] = []
        start = 0
        while start < len(group):
            segment = group[start].segment
            stop = start
            while stop < len(group) and group[stop].segment is segment:
                stop += 1
            if not segment.synced:
                self._name(segment)
            _write_all(segment.fd, b"".join(write.data for write in group[start:stop]), group[start].offset)
            touched.append(segment)
            start = stop
        for segment in touched:
            os.fdatasync(segment.fd)
        done = touched[:-1] if self._writing in (None, touched[0]) else [self._writing, *touched[:-1]]
        for segment in done:
            os.close(segment.fd)
        self._writing = touched[-1]

    def _name(self, segment: _Segment) -> None:
        """A spare becomes a segment of the log: header, name, and a folder that remembers the name after a power loss."""
        assert segment.first is not None
        _write_all(segment.fd, segment_header(segment.first), 0)
        os.fsync(segment.fd)
        path = segment_path(self._home, segment.first)
        segment.path.rename(path)
        folder = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        segment.path = path
        segment.synced = True

    def _wake_group(self, group: list[_Write]) -> None:
        self.durable_sequence = group[-1].sequence
        for write in group:
            write.ended(None)

    # -- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what is queued, end the thread, remove segments never used. Idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        if self._writing is not None and self._writing not in self._segments:
            os.close(self._writing.fd)
        for segment in self._segments:
            os.close(segment.fd)
            if not segment.synced:
                segment.path.unlink(missing_ok=True)
        self._writing = None
        self._segments.clear()


def _fail(group: list[_Write], error: OSError) -> None:
    for write in group:
        write.ended(JournalBroken(str(error)))


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
