"""What a dead process leaves becomes records once, by its counts, and never more than was delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from calls import NOW, WORKER, finished, identity, record
from museway_billing.holds import Recover, Release
from museway_billing.journal import Journal, Slot
from museway_billing.journal.format import SEGMENT_HEADER_BYTES, segment_paths
from museway_billing.journal.home import Home
from museway_billing.journal.recovery import SET_ASIDE, Claimed, claim_dead
from museway_billing.money import NanoUsd
from museway_billing.timestamp import to_microseconds
from museway_billing.usage import CallIdentity, State, UsageRecord

ENDED = to_microseconds(NOW) + 5_000_000


class DeadJournal(Journal):
    """Dies when asked to: its lock is freed as the kernel frees it, nothing else is tidied."""

    async def die(self) -> None:
        await self._log.close()
        self._home.release()


def leave(directory: Path, act: Callable[[DeadJournal], Awaitable[None]]) -> None:
    """A process that opens a journal, acts, and dies."""

    async def live() -> None:
        journal = await DeadJournal.open(directory, process="gateway", slots=16, segment_bytes=1 << 16)
        await act(journal)
        await journal.die()

    asyncio.run(live())


def claim(directory: Path) -> Claimed:
    (claimed,) = claim_dead(directory, ended=ENDED)
    return claimed


def records(claimed: Claimed) -> list[UsageRecord]:
    return list(claimed.tail.read(500).records)


def dispatched(journal: Journal, call: CallIdentity) -> Slot:
    slot = journal.open_slot(call)
    slot.dispatched(WORKER)
    return slot


def test_a_dispatched_slot_becomes_an_interrupted_record_at_its_count(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        dispatched(journal, identity(1)).update(120, 20, 7, 3)

    leave(tmp_path, act)
    claimed = claim(tmp_path)
    (one,) = claimed.recovered
    assert (one.id, one.state, one.worker) == (record(1).id, State.INTERRUPTED, WORKER)
    assert (one.input, one.cached_input, one.reasoning, one.output, one.unbilled) == (100, 20, 7, 3, None)
    assert (one.created, one.ended) == (identity(1).created, ENDED)
    assert one.credited_nano_usd == 0
    assert records(claimed) == [one]


def test_one_never_dispatched_makes_no_record_but_its_hold_is_told(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        journal.open_slot(identity(1))

    leave(tmp_path, act)
    claimed = claim(tmp_path)
    assert (records(claimed), claimed.recovered) == ([], ())
    assert claimed.holds == {identity(1).hold_id: Release()}


def test_one_dispatched_and_unseen_makes_a_record_of_nothing(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        dispatched(journal, identity(1))
        dispatched(journal, identity(2)).update(120, 0, 0, 0)

    leave(tmp_path, act)
    for one in claim(tmp_path).recovered:
        assert (one.input, one.reasoning, one.output, one.amount_nano_usd, one.unbilled) == (0, 0, 0, 0, None)


def test_uncounted_text_is_unknown(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        dispatched(journal, identity(1)).update(120, 0, -1, -1)

    leave(tmp_path, act)
    (one,) = claim(tmp_path).recovered
    assert (one.state, one.output, one.amount_nano_usd > 0) == (State.UNKNOWN, None, True)


def test_the_log_beats_the_slot(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        for number in (1, 2):
            dispatched(journal, identity(number)).update(120, 20, 0, 1)
        await journal.append(record(2))

    leave(tmp_path, act)
    claimed = claim(tmp_path)
    assert [one.id for one in claimed.recovered] == [record(1).id]
    assert records(claimed) == [record(2), claimed.recovered[0]]


def test_a_hold_ends_by_all_the_records_of_its_calls(tmp_path: Path) -> None:
    """One call of the request is in the log and was drained long ago, one was cut short, one was never sent."""

    async def act(journal: Journal) -> None:
        slots = [journal.open_slot(identity(number, request=7)) for number in (1, 2, 3)]
        slots[0].dispatched(WORKER)
        await journal.append(finished(slots[0].identity))
        slots[1].dispatched(WORKER)
        slots[1].update(120, 20, 0, 5)
        for number in range(10, 200):
            other = journal.open_slot(identity(number))
            await journal.append(finished(other.identity))
            other.free()
        journal.pending.drained(journal.last_sequence)

    leave(tmp_path, act)
    claimed = claim(tmp_path)
    (cut,) = claimed.recovered
    whole = finished(identity(1, request=7)).amount_nano_usd
    assert claimed.holds == {identity(1, request=7).hold_id: Recover(NanoUsd(whole + cut.amount_nano_usd))}


def test_a_slot_whose_record_was_appended_but_not_marked_is_found_in_the_log(tmp_path: Path) -> None:
    """The process dies between the sync and the mark: the slot still says dispatched."""

    async def act(journal: Journal) -> None:
        slot = dispatched(journal, identity(1))
        await journal.append(record(1))
        slot._state = slot._state.DISPATCHED  # pyright: ignore[reportPrivateUsage]
        slot.update(120, 20, 0, 1)

    leave(tmp_path, act)
    assert claim(tmp_path).recovered == ()


@pytest.mark.parametrize(
    ("call", "credited"),
    [
        (identity(1, idempotency_hash=b"h" * 32), True),
        (identity(1, internal=True), True),
        (identity(1), False),
    ],
)
def test_what_the_customer_can_repeat_or_never_saw_is_given_back(
    tmp_path: Path, call: CallIdentity, credited: bool
) -> None:
    async def act(journal: Journal) -> None:
        dispatched(journal, call).update(120, 20, 7, 3)

    leave(tmp_path, act)
    (one,) = claim(tmp_path).recovered
    assert one.amount_nano_usd > 0
    assert one.credited_nano_usd == (one.amount_nano_usd if credited else 0)


def test_a_recovery_that_dies_is_recovered_the_same_way(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        await journal.append(record(1))
        dispatched(journal, identity(2)).update(120, 20, 7, 3)

    leave(tmp_path, act)
    first = claim(tmp_path)
    assert claim_dead(tmp_path, ended=ENDED) == [], "the claim holds while its process lives"
    first.home.release()
    second = claim(tmp_path)
    assert second.tail.epoch == first.tail.epoch + 1
    assert second.recovered == ()
    assert records(second) == [record(1), *first.recovered]


def test_a_log_cut_anywhere_is_recovered_and_continued(tmp_path: Path) -> None:
    """The last group of writes never finished: the slots of its records speak for them."""

    async def act(journal: Journal) -> None:
        for number in (1, 2, 3):
            dispatched(journal, identity(number)).update(120, 20, 0, 50)
        await journal.append(finished(identity(1)))

    leave(tmp_path / "whole", act)
    (source,) = (tmp_path / "whole").iterdir()
    whole = {path.name: path.read_bytes() for path in source.iterdir()}
    (log,) = [name for name in whole if name.startswith("log-")]
    end = len(whole[log].rstrip(b"\x00"))
    for cut in [*range(0, SEGMENT_HEADER_BYTES, 5), *range(SEGMENT_HEADER_BYTES, end + 1, 37), end]:
        home = tmp_path / f"cut-{cut}" / source.name
        home.mkdir(parents=True)
        for name, data in whole.items():
            torn = data[:cut] + bytes(len(data) - cut) if name == log else data
            (home / name).write_bytes(torn)
        claimed = claim(home.parent)
        found = records(claimed)
        recorded = cut >= end
        assert [one.id for one in found] == [record(number).id for number in (1, 2, 3)]
        assert found[recorded:] == list(claimed.recovered)
        assert (found[0].credited_nano_usd > 0) == (not recorded), "a record that our disk lost is given back"
        claimed.home.release()


def test_damage_inside_the_log_is_reported_and_the_folder_kept(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        for number in (1, 2, 3):
            await journal.append(record(number))
        dispatched(journal, identity(4)).update(120, 20, 0, 50)

    leave(tmp_path, act)
    (home,) = tmp_path.iterdir()
    ((_, log),) = segment_paths(home)
    data = bytearray(log.read_bytes())
    data[SEGMENT_HEADER_BYTES + 1000] ^= 1
    log.write_bytes(data)
    claimed = claim(tmp_path)
    assert claimed.damaged == (log.name,)
    assert [one.id for one in records(claimed)] == [record(1).id, record(4).id]
    claimed.finish()
    assert [path.name for path in (tmp_path / SET_ASIDE).iterdir()] == [home.name]
    assert claim_dead(tmp_path, ended=ENDED) == []


def test_a_folder_that_died_at_birth_is_swept(tmp_path: Path) -> None:
    (tmp_path / "gateway-0").mkdir()
    assert claim_dead(tmp_path, ended=ENDED) == []
    assert list(tmp_path.iterdir()) == []


def test_two_who_claim_do_not_both_get_it(tmp_path: Path) -> None:
    async def act(journal: Journal) -> None:
        dispatched(journal, identity(1))

    leave(tmp_path, act)
    (path,) = tmp_path.iterdir()
    with Home.claim(path) or pytest.fail("the first claim") as home:
        assert Home.claim(path) is None
        assert home.epoch == 2
