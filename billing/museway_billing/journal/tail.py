"""Reading a journal's records in order: what the drain has still to carry to PostgreSQL. Live or dead, the same files."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from museway_billing.journal.format import (
    FRAME_BYTES_MAX,
    FRAME_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    decode_record,
    read_frame,
    read_frames,
    refuse_other_version,
    segment_paths,
)
from museway_billing.journal.keeping import retire
from museway_billing.usage import UsageRecord

_CHUNK_BYTES = 1 << 19

RECOVERY_JUMP = 1 << 20
"""How far the numbering jumps for what a recovery appends: beyond any number that may have been given and be gone, so
that none is taken for one that is drained already."""


class Batch(Struct, frozen=True):
    """Records in the order of their sequence numbers; `last` is the number of the last one read so far."""

    records: tuple[UsageRecord, ...]
    last: int


class Tail:
    """One journal's records, read from its files; nothing is kept in memory. `durable`: read no further than this number.
    `needed`: keep what has this number or a higher one, though it is drained.

    One reader at a time. `read` makes blocking file reads (from the page cache, as a rule): run it in a thread.
    """

    def __init__(
        self,
        home: Path,
        *,
        id: str,  # noqa: A002
        epoch: int,
        durable: Callable[[], int] | None = None,
        needed: Callable[[], int] | None = None,
    ) -> None:
        self.id = id
        self.epoch = epoch
        self.drained_sequence = 0
        """Everything up to here is in PostgreSQL."""
        self.damaged: list[Path] = []
        """Segments with records that cannot be read any more: kept and reported, never guessed at."""
        self._home = home
        self._durable = durable
        self._needed = needed
        self._path: Path | None = None
        self._first = 0
        self._next = 1
        self._offset = SEGMENT_HEADER_BYTES

    @property
    def is_there(self) -> bool:
        """False where somebody has removed the folder: a missing file must not pass for a database that is away."""
        return (self._home / "epoch").exists()

    def seek(self, drained: int) -> None:
        """Continue after record `drained`, the last one that is in PostgreSQL."""
        self.drained_sequence = drained
        self._next = drained + 1
        self._path = None

    def read(self, limit: int) -> Batch:
        """At most `limit` further records; none where there are no more for now. Raises JournalDamaged."""
        records: list[UsageRecord] = []
        while (count := self._allowed(limit - len(records))) > 0:
            payloads = self._take(count) if self._path is not None or self._open() else []
            records += map(decode_record, payloads)
            if not payloads and not self._go_on():
                break
        return Batch(tuple(records), self._next - 1)

    def _allowed(self, limit: int) -> int:
        return limit if self._durable is None else min(limit, self._durable() - self._next + 1)

    def _open(self) -> bool:
        """Find the segment with record `_next`, or the first one after it if that record is gone."""
        segments = segment_paths(self._home)
        if not segments:
            return False
        at = max((place for place, (first, _) in enumerate(segments) if first <= self._next), default=0)
        wanted = max(self._next, segments[at][0])
        self._enter(*segments[at])
        while self._next < wanted and self._take(wanted - self._next):
            pass
        return True

    def _enter(self, first: int, path: Path) -> None:
        with path.open("rb") as file:
            refuse_other_version(path, file.read(SEGMENT_HEADER_BYTES))
        self._path, self._first, self._next, self._offset = path, first, first, SEGMENT_HEADER_BYTES

    def _take(self, limit: int) -> list[bytes]:
        """The next payloads of the current segment, up to `limit`."""
        assert self._path is not None
        with self._path.open("rb") as file:
            data = os.pread(file.fileno(), min(_CHUNK_BYTES, limit * FRAME_BYTES_MAX), self._offset)
        payloads: list[bytes] = []
        end = 0
        for sequence, after, payload in read_frames(data, 0, self._next):
            payloads.append(bytes(payload))
            end = after
            self._next = sequence + 1
            if len(payloads) == limit:
                break
        self._offset += end
        return payloads

    def _go_on(self) -> bool:
        """Enter the segment after the current one, which has no more whole frame. False: there is none yet. Raises
        FileNotFoundError where the current one and those after it were drained and let go meanwhile, by who owns them."""
        if self._path is None:
            return False
        later = [(first, path) for first, path in segment_paths(self._home) if first > self._first]
        if not later:
            return False
        if 0 < later[0][0] - self._next < RECOVERY_JUMP:
            self._path.stat()  # the oldest is let go first: what is missing behind it was not drained
            self.damaged.append(self._path)
        self._enter(*later[0])
        return True

    def drained(self, sequence: int) -> None:
        """Everything up to `sequence` is in PostgreSQL: let go of the segments that hold nothing after it, but the last."""
        self.drained_sequence = sequence
        if self._needed is not None:
            sequence = min(sequence, self._needed() - 1)
        segments = segment_paths(self._home)
        for (_, path), (following, _) in pairwise(segments):
            if following - 1 <= sequence and path not in self.damaged:
                retire(path)
                if path == self._path:  # read to its end before the next one had its name
                    self._path = None


def last_sequence(home: Path) -> int:
    """The highest number of a record that can be read in the folder's last segment, 0 for none."""
    segments = segment_paths(home)
    if not segments:
        return 0
    first, path = segments[-1]
    last = first - 1
    for last, _, _ in read_frames(path.read_bytes(), SEGMENT_HEADER_BYTES, first):  # noqa: B007
        pass
    return last


def has_hole(first: int, path: Path) -> bool:
    """Whether something was written behind a record that is not whole: damage, where the torn end of a killed process is
    within one frame and followed by zeros. (A damaged last record looks like a torn one.)"""
    data = path.read_bytes()
    offset, sequence = SEGMENT_HEADER_BYTES, first
    for number, after, _ in read_frames(data, offset, first):
        offset, sequence = after, number + 1
    end = len(data.rstrip(b"\x00"))
    if end > offset + FRAME_BYTES_MAX:
        return True
    places = range(offset + FRAME_HEADER_BYTES, end)
    return any(read_frame(data, place, sequence + 1) is not None for place in places)
