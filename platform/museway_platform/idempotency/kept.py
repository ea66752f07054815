"""Finished answers on the disk, and the index that says where. Bounded: by age, by bytes on the disk, by entries in memory.

An answer is durable when `keep` returns, and that is before the record that bills it: an answer that was billed can be had
again. What does not fit any more leaves its mark, so that its key is refused and not run a second time.

In memory there is a hash and a place for each answer, nothing of the answer itself. `museway_platform.idempotency.segments`
does the blocking work, in a thread, one group of answers at a time: while one is synced the next gathers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from museway_platform.idempotency.frame import Header, Kind, mark, seal, unseal
from museway_platform.idempotency.names import Name
from museway_platform.idempotency.segments import SEGMENT_BYTES, NoRoom, Place, Segments

log = logging.getLogger("museway.idempotency")

TTL_S: Final = 24 * 3600
DISK_BYTES_MAX: Final = 1 << 30
ENTRIES_MAX: Final = 200_000
"""About 60 MiB of index. The oldest are forgotten beyond it, as after their time."""

_NOWHERE: Final = Place(0, 0)
"""The answer was given and nothing of it could be written."""


class AnswerNotKept(Exception):
    """It was answered and billed; the answer is not there any more."""


class OtherBody(Exception):
    """The key stands for another request."""


class Answer(Struct, frozen=True):
    """`entries` is the log of the run that made it."""

    request_id: str
    entries: list[bytes]


class _Write(Struct, eq=False):
    name: Name
    request_id: str
    entries: list[bytes] | None
    """None: the key is free again."""
    place: Place | None = None


class Kept:
    """One process's. Calls of one event loop; not to be cancelled while they write."""

    def __init__(self, segments: Segments, *, ttl_s: float, disk_bytes_max: int, entries_max: int) -> None:
        self._segments = segments
        self._ttl_s = ttl_s
        self._disk_bytes_max = disk_bytes_max
        self._entries_max = entries_max
        self._index: dict[bytes, Place] = {}
        self._waiting: list[_Write] = []
        self._writing = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        interrupted: Collection[str] = (),
        ttl_s: float = TTL_S,
        disk_bytes_max: int = DISK_BYTES_MAX,
        entries_max: int = ENTRIES_MAX,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Self:
        """What is in `folder`, read in full. The requests `interrupted` were given back by the recovery of the journal:
        their keys are free, even where the answer had become durable before the process died."""
        segments = await asyncio.to_thread(Segments, folder, segment_bytes=segment_bytes)
        kept = cls(segments, ttl_s=ttl_s, disk_bytes_max=disk_bytes_max, entries_max=entries_max)
        await asyncio.to_thread(kept._load, frozenset(interrupted))
        return kept

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: Name) -> bool:
        return name.hash in self._index

    async def read(self, name: Name) -> Answer | None:
        """None where it has become too old meanwhile. Raises AnswerNotKept, OtherBody."""
        place = self._index.get(name.hash)
        if place is None:
            return None
        found = None if place is _NOWHERE else await asyncio.to_thread(self._segments.read, place)
        if found is None:
            raise AnswerNotKept
        header, frame = found
        if header.written + self._ttl_s < time.time():
            self._index.pop(name.hash, None)
            return None
        if header.fingerprint != name.fingerprint:
            raise OtherBody
        entries = await asyncio.to_thread(unseal, name, frame) if header.kind is Kind.ANSWER else None
        if entries is None:
            raise AnswerNotKept
        return Answer(header.request_id, entries)

    async def keep(self, name: Name, request_id: str, entries: list[bytes]) -> None:
        """Durable when it returns, or marked as not kept: in either case the key will not run again."""
        await self._write(_Write(name, request_id, entries))

    async def free(self, name: Name, request_id: str) -> None:
        """What was kept under the name does not count: its bill was not written."""
        self._index.pop(name.hash, None)
        await self._write(_Write(name, request_id, None))

    async def close(self) -> None:
        async with self._writing:
            await asyncio.to_thread(self._segments.close)

    # -- writing --------------------------------------------------------------------------------------------------------

    async def _write(self, write: _Write) -> None:
        self._waiting.append(write)
        async with self._writing:
            if write.place is not None:
                return  # the group before took it along
            group, self._waiting = self._waiting, []
            moved = await asyncio.to_thread(self._write_group, group)
        for hash_, place in moved:
            self._point(hash_, place)
        for one in group:
            if one.entries is not None:
                self._point(one.name.hash, one.place or _NOWHERE)

    def _point(self, hash_: bytes, place: Place | None) -> None:
        self._index.pop(hash_, None)
        if place is not None:
            self._index[hash_] = place
        while len(self._index) > self._entries_max:
            del self._index[next(iter(self._index))]

    def _write_group(self, group: list[_Write]) -> list[tuple[bytes, Place | None]]:
        """In a thread. Gives what else moved in the index."""
        before = self._segments.current
        for write in group:
            write.place = self._append(write)
        try:
            self._segments.sync()
            return [] if before == self._segments.current else list(self._prune())
        except OSError as error:
            log.error("answers can't be kept: %s", error.strerror)  # noqa: TRY400 (a full disk needs no traceback)
            for write in group:
                write.place = _NOWHERE
            return []

    def _append(self, write: _Write) -> Place:
        now = int(time.time())
        name = write.name
        try:
            if write.entries is None:
                raise NoRoom  # noqa: TRY301 (only the mark is wanted)
            return self._segments.append(seal(name, write.request_id, write.entries, now), is_mark=False)
        except (NoRoom, OSError):
            kind = Kind.FREE if write.entries is None else Kind.NOT_KEPT
            try:
                return self._segments.append(
                    mark(kind, name.hash, name.fingerprint, write.request_id, now), is_mark=True
                )
            except (NoRoom, OSError):
                return _NOWHERE

    def _prune(self) -> Iterator[tuple[bytes, Place | None]]:
        """Remove the oldest files while they are too old or too many; younger answers in them leave a mark."""
        now = time.time()
        for number in sorted(self._segments.sizes)[:-1]:
            headers = [(place, header) for place, header in self._segments.read_headers(number)]
            young = [(place, header) for place, header in headers if header.written + self._ttl_s >= now]
            if young and self._segments.written <= self._disk_bytes_max:
                return
            for place, header in headers:
                if self._index.get(header.hash) == place:
                    yield header.hash, self._marked(header) if header.written + self._ttl_s >= now else None
            self._segments.remove(number)
        self._segments.sync()

    def _marked(self, header: Header) -> Place:
        try:
            made = mark(Kind.NOT_KEPT, header.hash, header.fingerprint, header.request_id, header.written)
            return self._segments.append(made, is_mark=True)
        except (NoRoom, OSError):
            return _NOWHERE

    # -- the start ------------------------------------------------------------------------------------------------------

    def _load(self, interrupted: frozenset[str]) -> None:
        oldest = time.time() - self._ttl_s
        freed: dict[bytes, Header] = {}
        for number in sorted(self._segments.sizes):
            for place, header in self._segments.read_headers(number):
                if header.kind is Kind.FREE or header.written < oldest:
                    self._point(header.hash, None)
                elif header.request_id in interrupted:
                    freed[header.hash] = header
                else:
                    self._point(header.hash, place)
        try:
            self._segments.begin()
            for header in freed.values():
                self._segments.append(
                    mark(Kind.FREE, header.hash, header.fingerprint, header.request_id, int(time.time())), is_mark=True
                )
            self._segments.sync()
            for hash_, moved in list(self._prune()):
                self._point(hash_, moved)
        except (NoRoom, OSError) as error:
            log.warning("no room to keep answers for retries: %s", error)
