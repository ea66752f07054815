"""Drained segments: kept where they are to be kept, so long and no longer, and read again without loss."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from calls import finished, identity
from museway_billing.journal import Journal
from museway_billing.journal.keeping import KEPT_FOR, keep_drained, kept_folder, needed_after, pages, prune, retire
from museway_billing.journal.log import SEGMENT_BYTES_MIN

RECORDS = [finished(identity(number)) for number in range(1, 9)]
DAY_NS = 86_400 * 1_000_000_000


async def live(journals: Path, drained: int) -> str:
    journal = await Journal.open(journals, process="gateway", slots=8, segment_bytes=SEGMENT_BYTES_MIN)
    for one in RECORDS:
        await journal.append(one)
    journal.pending.drained(drained)
    await journal.close()
    return journal.id


@pytest.mark.parametrize("drained", [0, 4, len(RECORDS)])
def test_nothing_that_was_drained_is_lost(tmp_path: Path, drained: int) -> None:
    journals = tmp_path / "journal"
    journals.mkdir()
    keep_drained(journals)
    name = asyncio.run(live(journals, drained))
    assert (journals / name).exists() == (drained < len(RECORDS))
    read = [record for _, page in pages(journals) for record in page]
    assert sorted(record.id for record in read) == [record.id for record in RECORDS]
    assert all(record in RECORDS for record in read)
    # A backup copies what its snapshot does not have, and little more.
    firsts = [first for _, first, _ in needed_after(journals, {name: 4})]
    assert firsts == [4, 7]


def test_where_nobody_asked_for_it_they_are_deleted(tmp_path: Path) -> None:
    journals = tmp_path / "journal"
    journals.mkdir()
    asyncio.run(live(journals, len(RECORDS)))
    assert list(journals.iterdir()) == []
    assert not kept_folder(journals).exists()


def test_they_are_kept_for_a_week(tmp_path: Path) -> None:
    journals = tmp_path / "journal"
    journals.mkdir()
    keep_drained(journals)
    asyncio.run(live(journals, len(RECORDS)))
    (home,) = kept_folder(journals).iterdir()
    written = max(path.stat().st_mtime_ns for path in home.iterdir())
    old = sorted(home.iterdir())[0]
    os.utime(old, ns=(written - DAY_NS, written - DAY_NS))
    prune(journals, now_ns=written + (KEPT_FOR - timedelta(hours=12)).days * DAY_NS + DAY_NS // 2)
    assert not old.exists()
    assert len(list(home.iterdir())) == 2
    prune(journals, now_ns=written + KEPT_FOR.days * DAY_NS + 1_000_000_000)
    assert list(kept_folder(journals).iterdir()) == []


def test_the_drain_goes_on_after_it_let_go_of_the_segment_it_stood_in(tmp_path: Path) -> None:
    """It had read to the end of one before the next got its name."""

    async def run() -> None:
        journal = await Journal.open(tmp_path, process="gateway", slots=8, segment_bytes=SEGMENT_BYTES_MIN)
        drained = 0
        for number, one in enumerate(RECORDS, start=1):
            await journal.append(one)
            journal.pending.drained(drained)
            assert journal.pending.read(10).records == (one,)
            drained = number
        await journal.close()

    asyncio.run(run())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Four megabytes."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        # tidy: allow skip: nobody else may make a file system
        pytest.skip("only root may mount a file system to fill it")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_what_is_kept_leaves_room_for_what_is_to_come(small_disk: Path) -> None:
    journals = small_disk / "journal"
    (journals / "gateway").mkdir(parents=True)
    keep_drained(journals)
    for number in range(1, 12):
        segment = journals / "gateway" / f"log-{number:020}"
        segment.write_bytes(b"x" * 500_000)
        retire(segment)
    kept = sorted(int(path.name.removeprefix("log-")) for path in kept_folder(journals).glob("*/*"))
    assert kept == [6, 7, 8, 9, 10, 11], "the newest"
