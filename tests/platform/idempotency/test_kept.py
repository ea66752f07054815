"""Answers on the disk: there again after a restart, bounded, for nobody but who has the key."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from museway_platform.idempotency.kept import AnswerNotKept, Kept, OtherBody
from museway_platform.idempotency.names import Name, Namer

pytestmark = pytest.mark.anyio

OLD, NEW = b"o" * 32, b"n" * 32
SEGMENT = 128 << 10
"""Half of it is kept back for marks."""
ENTRIES = [b"id: req_1:1\ndata: {}\n\n", b"secret text"]


def name(number: int = 1, *, secret: bytes = NEW, body: str = "x") -> Name:
    return Namer([secret]).names(project="prj_a", route="/r", key=b"raw-key-%d" % number, body=body)[0]


def request_id(number: int = 1) -> str:
    return f"req_{number:026}"


def noise(size: int = 20_000) -> list[bytes]:
    return [os.urandom(size)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def opened(folder: Path, **options: Any) -> Kept:
    return await Kept.open(folder, segment_bytes=SEGMENT, **options)


async def keep(kept: Kept, number: int, entries: list[bytes]) -> None:
    await kept.keep(name(number), request_id(number), entries)


@contextmanager
def full_disk() -> Generator[None]:
    """No file of a whole segment can be made; what is allocated can be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT - 1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("ended_well", [True, False])
async def test_there_again_after_a_restart(tmp_path: Path, ended_well: bool) -> None:
    kept = await opened(tmp_path)
    for number in range(5):
        await keep(kept, number, [*ENTRIES, b"%d" % number])
    if ended_well:
        await kept.close()
    again = await opened(tmp_path)
    for number in range(5):
        assert name(number) in again
        answer = await again.read(name(number))
        assert answer is not None
        assert (answer.request_id, answer.entries) == (request_id(number), [*ENTRIES, b"%d" % number])
    assert name(9) not in again


async def test_another_body(tmp_path: Path) -> None:
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    with pytest.raises(OtherBody):
        await kept.read(name(body="y"))


async def test_nothing_can_be_read_without_the_key(tmp_path: Path) -> None:
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    data = b"".join(path.read_bytes() for path in files(tmp_path))
    assert b"secret" not in data and b"raw-key" not in data and b"prj_a" not in data
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))


async def test_a_name_of_an_older_secret(tmp_path: Path) -> None:
    """SECRET_KEYS was rotated: what was kept under the old one is found under the old one's name."""
    kept = await opened(tmp_path)
    await kept.keep(name(secret=OLD), request_id(), ENTRIES)
    again = await opened(tmp_path)
    names = Namer([NEW, OLD]).names(project="prj_a", route="/r", key=b"raw-key-1", body="x")
    assert [one in again for one in names] == [False, True]
    answer = await again.read(names[1])
    assert answer is not None and answer.entries == ENTRIES


async def test_many_at_once_are_one_group(tmp_path: Path) -> None:
    kept = await opened(tmp_path)
    await asyncio.gather(*(keep(kept, number, ENTRIES) for number in range(200)))
    assert len(kept) == 200
    assert all(name(number) in kept for number in range(200))
    again = await opened(tmp_path)
    assert len(again) == 200


async def test_of_an_interrupted_request_nothing_counts(tmp_path: Path) -> None:
    """Its bill was given back by the journal's recovery: now, and at every later start."""
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    await keep(kept, 2, ENTRIES)
    assert name(1) not in await opened(tmp_path, interrupted={request_id(1)})
    later = await opened(tmp_path)
    assert name(1) not in later
    assert name(2) in later
    await keep(later, 1, ENTRIES)
    assert name(1) in await opened(tmp_path)


async def test_a_bill_that_failed_frees_the_key(tmp_path: Path) -> None:
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    await kept.free(name(1), request_id(1))
    assert name(1) not in kept
    assert name(1) not in await opened(tmp_path)


async def test_too_old(tmp_path: Path) -> None:
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    kept = await opened(tmp_path, ttl_s=-1)
    assert name(1) not in kept
    await keep(kept, 2, ENTRIES)
    assert await kept.read(name(2)) is None
    assert name(2) not in kept


async def test_bounded_on_the_disk(tmp_path: Path) -> None:
    """The oldest answers go; that they were given stays known, so that none of them runs again."""
    kept = await opened(tmp_path, disk_bytes_max=3 * SEGMENT)
    for number in range(40):
        await keep(kept, number, noise())
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 4 * SEGMENT
    for state in (kept, await opened(tmp_path, disk_bytes_max=3 * SEGMENT)):
        with pytest.raises(AnswerNotKept):
            await state.read(name(0))
        answer = await state.read(name(39))
        assert answer is not None
        assert all(name(number) in state for number in range(40))


async def test_bounded_in_memory(tmp_path: Path) -> None:
    kept = await opened(tmp_path, entries_max=10)
    for number in range(30):
        await keep(kept, number, ENTRIES)
    assert len(kept) == 10
    assert name(19) not in kept
    assert name(20) in kept
    assert len(await opened(tmp_path, entries_max=10)) == 10


async def test_a_full_disk(tmp_path: Path) -> None:
    """What does not fit leaves a mark where the answer would be, also for the next process; then there is room again."""
    kept = await opened(tmp_path)
    with full_disk():
        for number in range(6):
            await keep(kept, number, noise())
        first = await kept.read(name(0))
        assert first is not None
        with pytest.raises(AnswerNotKept):
            await kept.read(name(5))
    await keep(kept, 6, noise())
    again = await opened(tmp_path)
    for state in (kept, again):
        assert await state.read(name(6)) is not None
        with pytest.raises(AnswerNotKept):
            await state.read(name(5))
        with pytest.raises(OtherBody):
            await state.read(name(5, body="y"))


async def test_no_room_from_the_start(tmp_path: Path) -> None:
    with full_disk():
        kept = await opened(tmp_path)
        await keep(kept, 1, ENTRIES)
        with pytest.raises(AnswerNotKept):
            await kept.read(name(1))
    await keep(kept, 2, ENTRIES)
    assert await kept.read(name(2)) is not None


async def test_a_start_leaves_no_empty_files(tmp_path: Path) -> None:
    for _ in range(5):
        await opened(tmp_path)
    assert len(files(tmp_path)) == 1


async def test_a_damaged_file(tmp_path: Path) -> None:
    """A flipped bit is not kept, or not known; never another answer."""
    kept = await opened(tmp_path)
    await keep(kept, 1, ENTRIES)
    await kept.close()
    (path,) = (path for path in files(tmp_path) if path.stat().st_size)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        again = await opened(tmp_path)
        if name(1) in again:
            with pytest.raises(AnswerNotKept):
                await again.read(name(1))
        await again.close()
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        again = await opened(tmp_path)
        if name(1) in again:
            with pytest.raises(AnswerNotKept):
                await again.read(name(1))
        await again.close()
