"""Drained segments kept for some days, so that a restored database can be drained again from where its backup ends.

They are moved to a folder beside the journals, `journal-drained/<journal id>/log-…`: where that folder exists they are kept,
elsewhere they are deleted, and so are the oldest while the disk has less than a fifth of its room left. Beside, not inside:
what lies among the journals is claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path

from museway_billing.journal.format import (
    SEGMENT_HEADER_BYTES,
    decode_record,
    read_frames,
    refuse_other_version,
    segment_paths,
)
from museway_billing.usage import UsageRecord

KEPT_FOR = timedelta(days=7)
PRUNED_EVERY_S = 3600
FREE_SHARE = 5
PAGE_RECORDS = 250


def kept_folder(journals: Path) -> Path:
    return journals.with_name(f"{journals.name}-drained")


def keep_drained(journals: Path) -> None:
    """From here on segments are kept."""
    kept_folder(journals).mkdir(mode=0o700, exist_ok=True)


def retire(segment: Path) -> None:
    """A segment of a journal is drained: keep it or delete it. Gone already: fine."""
    home = segment.parent
    kept = kept_folder(home.parent)
    if not kept.is_dir():
        segment.unlink(missing_ok=True)
        return
    place = kept.joinpath(home.name)
    place.mkdir(mode=0o700, exist_ok=True)
    segment.rename(place.joinpath(segment.name))
    _leave_room(kept)


def _leave_room(kept: Path) -> None:
    """What is kept never stands in the way of what is to come: the oldest goes while less than a fifth of the disk is free."""
    if _has_room(kept):
        return
    for path in sorted(kept.glob("*/*"), key=_written):
        path.unlink(missing_ok=True)
        if _has_room(kept):
            return


def _has_room(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * FREE_SHARE >= disk.f_blocks


def _written(path: Path) -> int:
    """When, in ns since the epoch; 0 where another process has deleted it."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def retire_all(home: Path) -> None:
    """A journal is drained to its end: keep what it still has, without the room that was set aside for more."""
    if not kept_folder(home.parent).is_dir():
        return
    for first, path in segment_paths(home):
        os.truncate(path, len(content(path, first)))
        retire(path)


def prune(journals: Path, *, now_ns: int) -> None:
    """Delete what was last written more than KEPT_FOR before `now_ns` (since the epoch)."""
    kept, before = kept_folder(journals), now_ns - KEPT_FOR // timedelta(microseconds=1) * 1000
    for home in sorted(kept.iterdir()) if kept.is_dir() else ():
        for _, path in segment_paths(home):
            if _written(path) < before:
                path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty, or another process was faster
            home.rmdir()


async def run(journals: Path) -> None:
    """Keep what is drained, for so long; until cancelled."""
    while True:
        await asyncio.to_thread(prune, journals, now_ns=time.time_ns())
        await asyncio.sleep(PRUNED_EVERY_S)


def content(path: Path, first: int) -> bytes:
    """A segment's header and whole records, without what comes after. Raises OtherVersion."""
    data = path.read_bytes()
    refuse_other_version(path, data[:SEGMENT_HEADER_BYTES])
    end = SEGMENT_HEADER_BYTES
    for _, end, _ in read_frames(data, SEGMENT_HEADER_BYTES, first):  # noqa: B007
        pass
    return data[:end]


def homes(journals: Path) -> list[Path]:
    """Every folder with segments: journals of the living, of the dead, those set aside, those drained."""
    folders = [journals, journals / "damaged", kept_folder(journals)]
    return sorted(home for folder in folders if folder.is_dir() for home in folder.iterdir() if segment_paths(home))


def needed_after(journals: Path, drained: dict[str, int]) -> list[tuple[str, int, Path]]:
    """The segments with records that are not among the `drained` of their journals, as (journal, first sequence, path)."""
    journal_segments: dict[str, list[tuple[int, Path]]] = {}
    for home in homes(journals):
        journal_segments.setdefault(home.name, []).extend(segment_paths(home))
    found: list[tuple[str, int, Path]] = []
    for name, segments in sorted(journal_segments.items()):
        segments.sort()
        following = [first for first, _ in segments[1:]]
        for (first, path), end in zip_longest(segments, following):
            if end is None or end > drained.get(name, 0) + 1:
                found.append((name, first, path))
    return found


def pages(journals: Path) -> Iterator[tuple[str, list[UsageRecord]]]:
    """All records that can still be read, by journal, in the order of their sequence. A name for each page goes with it.
    Raises OtherVersion."""
    for home in homes(journals):
        for first, path in segment_paths(home):
            page: list[UsageRecord] = []
            number = first
            for number, _, payload in read_frames(content(path, first), SEGMENT_HEADER_BYTES, first):
                page.append(decode_record(payload))
                if len(page) == PAGE_RECORDS:
                    yield f"{home.name}:{number}", page
                    page = []
            if page:
                yield f"{home.name}:{number}", page
