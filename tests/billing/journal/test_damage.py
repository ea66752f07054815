"""A journal folder cut at every byte and with flipped bits is recovered: what comes out was written, and what could not be
read is said."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls import NOW, WORKER, finished, identity
from museway_billing.journal import Journal
from museway_billing.journal.format import SEGMENT_HEADER_BYTES, segment_paths
from museway_billing.journal.log import SEGMENT_BYTES_MIN
from museway_billing.journal.recovery import SET_ASIDE, Claimed, claim_dead
from museway_billing.timestamp import to_microseconds
from museway_billing.usage import State, UsageRecord

LOGGED = [finished(identity(number)) for number in range(1, 8)]
"""Ended and settled: in the log, their slots are free."""
UNSETTLED = finished(identity(9))
"""In the log, and its slot says so: its hold has not ended."""
COUNTS = (120, 20, 7, 3)
RUNNING, RECORDED, UNSENT = identity(8), identity(9), identity(10)
ENDED = to_microseconds(NOW) + 5_000_000


class _Dead(Journal):
    async def die(self) -> None:
        await self._log.close()
        self._home.release()


async def _live(directory: Path) -> None:
    journal = await _Dead.open(directory, process="gateway", slots=5, segment_bytes=SEGMENT_BYTES_MIN)
    running = journal.open_slot(RUNNING)
    running.dispatched(WORKER)
    running.update(*COUNTS)
    recorded = journal.open_slot(RECORDED)
    recorded.dispatched(WORKER)
    recorded.update(*COUNTS)
    journal.open_slot(UNSENT)
    for one in LOGGED:
        slot = journal.open_slot(identity(int(one.id.removeprefix("use_"))))
        slot.dispatched(WORKER)
        slot.update(*COUNTS)
        await journal.append(one)
        slot.free()
    await journal.append(UNSETTLED)
    await journal.die()


class Folder:
    """A journal as its dead process left it, to be laid out again with one file damaged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        asyncio.run(_live(directory / "source"))
        (source,) = (directory / "source").iterdir()
        self.name = source.name
        self.files = {path.name: path.read_bytes() for path in source.iterdir()}
        self.logs = [path.name for _, path in segment_paths(source)]

    def end(self, name: str) -> int:
        return len(self.files[name].rstrip(b"\x00"))

    def recover(self, name: str, data: bytes) -> tuple[list[UsageRecord], Claimed]:
        """All that comes out of it with `data` as this file, and what is left of it afterwards."""
        journals = self.directory / "journal"
        shutil.rmtree(journals, ignore_errors=True)
        home = journals / self.name
        home.mkdir(parents=True)
        for other, content in self.files.items():
            (home / other).write_bytes(data if other == name else content)
        (claimed,) = claim_dead(journals, ended=ENDED)
        claimed.tail.seek(0)
        records = list(claimed.tail.read(500).records)
        claimed.finish()
        aside = journals / SET_ASIDE / self.name
        is_damaged = bool(claimed.damaged or claimed.tail.damaged)
        assert aside.exists() == is_damaged
        assert not home.exists()
        return records, claimed


@pytest.fixture(scope="module")
def folder() -> Iterator[Folder]:
    # In memory: thousands of recoveries sync their files.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Folder(Path(directory))


def made_of_a_slot(record: UsageRecord) -> bool:
    """Not a record that was written: one that a slot's counts explain, and no more than they do."""
    reasoning, output = record.reasoning or 0, record.output or 0
    known = record.id in {RUNNING.record_id, RECORDED.record_id, *(one.id for one in LOGGED)}
    return known and record.state is State.INTERRUPTED and reasoning <= COUNTS[2] and output <= COUNTS[3]


def judge(folder: Folder, records: list[UsageRecord]) -> set[str]:
    """Every record was written or is a slot's, and stands once. The ids of those that were written and are whole."""
    written = {one.id: one for one in [*LOGGED, UNSETTLED]}
    assert len({one.id for one in records}) == len(records)
    assert all(written.get(one.id) == one or made_of_a_slot(one) for one in records)
    whole = [one for one in records if written.get(one.id) == one]
    assert whole == sorted(whole, key=list(written.values()).index), "in the order in which they were written"
    return {one.id for one in whole}


def test_the_folder_has_what_these_tests_need(folder: Folder) -> None:
    assert len(folder.logs) == 3
    records, claimed = folder.recover("", b"")
    assert [one.id for one in records] == [*(one.id for one in LOGGED), UNSETTLED.id, RUNNING.record_id]
    assert claimed.damaged == ()


def test_a_log_cut_at_every_byte(folder: Folder) -> None:
    for name in folder.logs:
        last = name == folder.logs[-1]
        data, before = folder.files[name], -1
        for cut in range(folder.end(name) + 1):
            torn = data[:cut] + (bytes(len(data) - cut) if cut % 2 else b"")
            records, claimed = folder.recover(name, torn)
            whole = judge(folder, records)
            assert {RUNNING.record_id, UNSETTLED.id} <= {one.id for one in records}, "a slot or the log has it"
            assert len(whole) >= before, "the longer the file, the more is read"
            before = len(whole)
            lost = len(whole) < len(LOGGED) + 1
            assert not lost or last or claimed.damaged or claimed.tail.damaged, "what is lost is said"
        assert before == len(LOGGED) + 1


def test_a_damaged_length_does_not_hide_what_stands_behind(folder: Folder) -> None:
    """In the last segment nothing follows that would tell of the gap, and the length is what leads to the next record."""
    name = folder.logs[-1]
    damaged = bytearray(folder.files[name])
    damaged[SEGMENT_HEADER_BYTES] ^= 1
    records, claimed = folder.recover(name, bytes(damaged))
    assert len(judge(folder, records)) < len(LOGGED)
    assert name in claimed.damaged


def test_slots_cut_at_every_byte(folder: Folder) -> None:
    data = folder.files["slots"]
    for cut in [*range(0, 4096, 64), *range(4096, len(data))]:
        records, claimed = folder.recover("slots", data[:cut])
        assert judge(folder, records) == {*(one.id for one in LOGGED), UNSETTLED.id}
        assert "slots" in claimed.damaged
        assert all(one.id in {RUNNING.record_id} for one in claimed.recovered)
    assert folder.recover("slots", data)[1].damaged == ()


def test_an_epoch_cut_at_every_byte(folder: Folder) -> None:
    data = folder.files["epoch"]
    for cut in range(len(data) - 1):
        records, claimed = folder.recover("epoch", data[:cut])
        assert len(records) == len(LOGGED) + 2
        assert claimed.damaged == ("epoch",)
        assert claimed.home.epoch > 1_000_000, "later than any that it can have had: nobody else's is taken for it"


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bits_flipped_anywhere(folder: Folder, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*folder.logs, "slots", "epoch"]))
    damaged = bytearray(folder.files[name])
    for place in data.draw(st.lists(st.integers(0, folder.end(name) - 1), min_size=1, max_size=4)):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    records, _ = folder.recover(name, bytes(damaged))
    judge(folder, records)
    if name in folder.logs:
        assert {RUNNING.record_id, UNSETTLED.id} <= {one.id for one in records}
    else:
        assert {one.id for one in LOGGED} <= {one.id for one in records}


def test_what_is_recovered_is_not_mistaken_for_what_was_drained(folder: Folder) -> None:
    """All of the log was in PostgreSQL when its end was damaged: the record of the open call gets a later number."""
    name = folder.logs[-1]
    data = bytearray(folder.files[name])
    data[folder.end(name) - 1] ^= 1
    journals = folder.directory / "journal"
    shutil.rmtree(journals, ignore_errors=True)
    (journals / folder.name).mkdir(parents=True)
    for other, content in folder.files.items():
        (journals / folder.name / other).write_bytes(data if other == name else content)
    (claimed,) = claim_dead(journals, ended=ENDED)
    claimed.tail.seek(len(LOGGED) + 1)
    assert RUNNING.record_id in {one.id for one in claimed.tail.read(500).records}
    claimed.home.release()
