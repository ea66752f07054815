"""The journal at work: durable when it says so, full only at the door, nothing lost to a cancelled waiter."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from calls import WORKER, finished, identity, record
from museway_billing.journal import Journal, JournalBroken, JournalClosed, JournalFull, Slot
from museway_billing.journal.format import FRAME_BYTES_MAX
from museway_billing.journal.log import SEGMENT_BYTES_MIN
from museway_billing.journal.recovery import claim_dead

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(tmp_path, process="gateway", slots=8, segment_bytes=SEGMENT_BYTES_MIN * 4)
    yield opened
    await opened.close()


def listing(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def segments(directory: Path) -> list[Path]:
    return list(directory.glob("*/log-*"))


@contextmanager
def file_size_limit(size: int) -> Generator[None]:
    """No file of this process may grow beyond `size` bytes: what a full disk is to `posix_fallocate`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_record_is_readable_once_append_returns(journal: Journal) -> None:
    slot = journal.open_slot(identity(1))
    slot.dispatched(WORKER)
    assert journal.pending.read(10).records == ()
    await journal.append(record(1))
    assert journal.durable_sequence == 1
    assert journal.pending.read(10).records == (record(1),)
    slot.free()
    slot.free()
    assert journal.open_slots == 0


async def test_many_waiters_share_a_sync_and_keep_their_order(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path, process="gateway", slots=256)
    calls = [identity(number) for number in range(200)]
    slots = [journal.open_slot(call) for call in calls]
    await asyncio.gather(*(journal.append(finished(call)) for call in calls))
    assert [one.id for one in journal.pending.read(500).records] == [call.record_id for call in calls]
    for slot in slots:
        slot.free()
    await journal.close()


async def test_segments_follow_each_other(journal: Journal, tmp_path: Path) -> None:
    for number in range(60):
        slot = journal.open_slot(identity(number))
        await journal.append(record(number))
        slot.free()
    assert len(segments(tmp_path)) > 3
    read: list[str] = []
    while batch := journal.pending.read(7).records:
        read += [one.id for one in batch]
    assert read == [record(number).id for number in range(60)]
    journal.pending.drained(journal.last_sequence - 1)
    assert len(segments(tmp_path)) == 1, "a drained segment is deleted, the one in use is not"


async def test_a_cancelled_waiter_loses_nothing_and_may_ask_again(journal: Journal) -> None:
    journal.open_slot(identity(1))
    waiting = asyncio.ensure_future(journal.append(record(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await journal.append(record(1))
    assert journal.pending.read(10).records == (record(1),)
    assert journal.last_sequence == 1


async def test_all_slots_taken_is_refused_at_the_door(journal: Journal) -> None:
    slots = [journal.open_slot(identity(number)) for number in range(8)]
    with pytest.raises(JournalFull, match="8 slots"):
        journal.open_slot(identity(9))
    slots[0].free()
    journal.open_slot(identity(9))


async def test_an_identity_that_does_not_fit_takes_no_room(journal: Journal) -> None:
    for _ in range(20):
        with pytest.raises(AssertionError, match="model's name"):
            journal.open_slot(structs.replace(identity(1), model="m" * 600))
    slots = [journal.open_slot(identity(number)) for number in range(8)]
    assert journal.open_slots == len(slots)


async def test_a_full_disk_is_refused_at_the_door_and_whoever_is_inside_can_finish(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path, process="gateway", slots=64, segment_bytes=SEGMENT_BYTES_MIN * 4)
    opened: list[int] = []
    with file_size_limit(FRAME_BYTES_MAX):
        while len(opened) < 4:
            journal.open_slot(identity(len(opened)))
            opened.append(len(opened))
        with pytest.raises(JournalFull, match="segment"):
            journal.open_slot(identity(4))
    with file_size_limit(SEGMENT_BYTES_MIN * 4):
        for number in opened:
            await journal.append(record(number))
    assert len(journal.pending.read(10).records) == 4
    await journal.close()


async def test_no_room_for_slots_or_log_is_an_error_at_the_start(tmp_path: Path) -> None:
    with file_size_limit(1 << 16), pytest.raises(JournalFull, match="slots"):
        await Journal.open(tmp_path, process="gateway", slots=4096)
    with file_size_limit(1 << 16), pytest.raises(JournalFull, match="segment"):
        await Journal.open(tmp_path, process="gateway", slots=8, segment_bytes=1 << 17)
    assert listing(tmp_path) == []


async def test_a_failed_write_breaks_the_journal_for_everybody(tmp_path: Path) -> None:
    journal = await Journal.open(tmp_path, process="gateway", slots=8, segment_bytes=SEGMENT_BYTES_MIN * 4)
    journal.open_slot(identity(1))
    journal.open_slot(identity(2))
    with file_size_limit(10):
        with pytest.raises(JournalBroken):
            await journal.append(record(1))
    with pytest.raises(JournalBroken):
        await journal.append(record(2))
    with pytest.raises(JournalBroken):
        journal.open_slot(identity(3))
    await journal.close()


async def test_closing_an_empty_journal_leaves_no_trace(journal: Journal, tmp_path: Path) -> None:
    slot = journal.open_slot(identity(1))
    await journal.append(record(1))
    slot.free()
    journal.pending.drained(1)
    await journal.close()
    await journal.close()
    assert listing(tmp_path) == []
    with pytest.raises(JournalClosed):
        journal.open_slot(identity(2))


async def test_what_is_not_drained_at_the_end_is_left_for_the_next_process(journal: Journal, tmp_path: Path) -> None:
    slot = journal.open_slot(identity(1))
    await journal.append(record(1))
    slot.free()
    assert claim_dead(tmp_path, ended=0) == [], "its process lives"
    await journal.close()
    (claimed,) = claim_dead(tmp_path, ended=0)
    assert (claimed.id, claimed.tail.epoch) == (journal.id, journal.epoch + 1)
    assert claimed.tail.read(10).records == (record(1),)
    claimed.finish()


async def test_a_request_is_unsettled_until_its_last_record_is_drained(journal: Journal) -> None:
    call = identity(1, request=5)
    slot = journal.open_slot(call)
    assert await journal.unsettled(call.request_id)
    await journal.append(finished(call))
    slot.free()
    assert await journal.unsettled(call.request_id)
    assert not await journal.unsettled("req_other")
    journal.pending.drained(1)
    assert not await journal.unsettled(call.request_id)


@settings(max_examples=30, deadline=None)
@given(plan=st.lists(st.sampled_from("oaf"), max_size=60), frames=st.integers(1, 5))
def test_whoever_has_a_slot_can_always_write_its_record(
    tmp_path_factory: pytest.TempPathFactory, plan: list[str], frames: int
) -> None:
    """`o` opens a call, `a` appends the oldest's record, `f` frees one: however they mix, room never runs out inside."""

    async def run() -> None:
        size = SEGMENT_BYTES_MIN + (frames - 1) * FRAME_BYTES_MAX
        directory = tmp_path_factory.mktemp("journal")
        journal = await Journal.open(directory, process="gateway", slots=16, segment_bytes=size)
        running: list[Slot] = []
        ended: list[Slot] = []
        for number, step in enumerate(plan):
            if step == "o" and journal.open_slots < 16:
                running.append(journal.open_slot(identity(number)))
            elif step == "a" and running:
                ended.append(running.pop(0))
                await journal.append(finished(ended[-1].identity))
            elif step == "f" and (ended or running):
                (ended or running).pop().free()
        for slot in running:
            await journal.append(finished(slot.identity))
        written = 0
        while batch := journal.pending.read(500).records:
            written += len(batch)
        assert written == journal.last_sequence
        await journal.close()

    asyncio.run(run())
