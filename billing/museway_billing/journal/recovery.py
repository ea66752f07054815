"""What a dead process left: its folder is claimed, its open slots become records, and it is drained like any other.

- Whose: a folder whose lock is free belongs to a process that is dead on this host. Claiming raises its epoch.
- A slot that was never dispatched makes no record: nothing was sent.
- A dispatched one becomes an `interrupted` record at the slot's counts; where nothing had been delivered, a record of 0.
- A slot whose record is in the log is skipped: the log beats the slot.
- What was interrupted is given back where the customer can repeat the request for its answer (an Idempotency-Key, I7), or
  never saw what was made (an agent of a mode). Without either, what was delivered is billed (I1).

Recovered records are appended to the folder's own log before anything else happens, so that a recovery that dies itself is
recovered the same way. Everything here blocks: run it in a thread.
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from museway_billing.journal.format import encode_record, make_frame, segment_header, segment_path, segment_paths
from museway_billing.journal.home import Home, sync_folder
from museway_billing.journal.slots import SlotImage, SlotState, read_slots
from museway_billing.journal.tail import Tail, has_hole, last_sequence
from museway_billing.meter import from_slot
from museway_billing.usage import UsageRecord

SET_ASIDE = "damaged"
"""Folder beside the journals for those with parts that cannot be read: drained as far as possible, kept for inspection."""

_AFTER_A_HOLE = 1 << 20
"""How far the numbering jumps over records that cannot be read any more."""


class Claimed(Struct):
    """A dead process's journal, ours now. `recovered`: the records made of its open slots; their holds have to be ended.

    `unsent`: identities' hold ids of calls that were never dispatched: no record, but their holds have to be ended too.
    """

    home: Home
    tail: Tail
    recovered: tuple[UsageRecord, ...]
    unsent: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.home.id

    def finish(self) -> None:
        """Everything is in PostgreSQL: remove the folder, or set it aside where parts of it could not be read."""
        if not self.damaged and not self.tail.damaged:
            self.home.remove()
            return
        aside = self.home.path.parent / SET_ASIDE
        aside.mkdir(exist_ok=True)
        self.home.path.rename(aside / self.home.path.name)
        self.home.release()


def claim_dead(directory: Path, *, ended: int) -> list[Claimed]:
    """Claim every journal below `directory` whose process is dead. `ended`: microseconds, what recovered records end at.

    Raises OSError where the disk has no room for the recovered records, and JournalDamaged where a folder is not ours to
    read; those that were claimed so far are free again. Nothing is lost: the next attempt finds the same.
    """
    claimed: list[Claimed] = []
    if not directory.is_dir():
        return claimed
    try:
        for path in sorted(directory.iterdir()):
            if path.name != SET_ASIDE and path.is_dir() and (home := Home.claim(path)) is not None:
                claimed.append(_recover(home, ended))
    except BaseException:
        for one in claimed:
            one.home.release()
        raise
    return claimed


def _recover(home: Home, ended: int) -> Claimed:
    try:
        slots = list(read_slots(home.path / "slots")) if (home.path / "slots").exists() else []
        damaged = [f"slot {slot.index}" for slot in slots if slot.identity is None]
        segments = segment_paths(home.path)
        damaged += [path.name for first, path in segments if has_hole(first, path)]
        logged = _logged(home, {slot.identity.record_id for slot in slots if slot.identity is not None})
        records = [
            _record(slot, ended)
            for slot in slots
            if slot.state is SlotState.DISPATCHED and slot.identity and slot.identity.record_id not in logged
        ]
        unsent = tuple(s.identity.hold_id for s in slots if s.state is SlotState.OPEN and s.identity is not None)
        _append(home, records)
    except BaseException:
        home.release()
        raise
    tail = Tail(home.path, id=home.id, epoch=home.epoch)
    return Claimed(home=home, tail=tail, recovered=tuple(records), unsent=unsent, damaged=tuple(damaged))


def _logged(home: Home, wanted: set[str]) -> set[str]:
    """Which of these records are in the log already."""
    found: set[str] = set()
    tail = Tail(home.path, id=home.id, epoch=home.epoch)
    while wanted and (records := tail.read(500).records):
        found |= {record.id for record in records if record.id in wanted}
    return found


def _record(slot: SlotImage, ended: int) -> UsageRecord:
    identity = slot.identity
    assert identity is not None
    return from_slot(
        identity,
        worker=slot.worker or "unknown",
        prompt=slot.prompt,
        cached=slot.cached,
        reasoning=slot.reasoning,
        output=slot.output,
        ended=max(ended, identity.created),
        credit=bool(identity.idempotency_hash) or identity.internal,
    )


def _append(home: Home, records: list[UsageRecord]) -> None:
    """A further segment with these records, durable and complete when it gets its name."""
    if not records:
        return
    segments = segment_paths(home.path)
    first = last_sequence(home.path) + 1
    if segments and has_hole(*segments[-1]):
        first += _AFTER_A_HOLE
    frames = (make_frame(number, encode_record(record)) for number, record in enumerate(records, start=first))
    new = home.path / "recovered"
    with new.open("wb") as file:
        file.write(segment_header(first) + b"".join(frames))
        file.flush()
        os.fsync(file.fileno())
    new.rename(segment_path(home.path, first))
    sync_folder(home.path)
