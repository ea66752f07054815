"""What a dead process left: its folder is claimed, its open slots become records, and it is drained like any other.

- Whose: a folder whose lock is free belongs to a process that is dead on this host. Claiming raises its epoch.
- A slot that was never dispatched makes no record: nothing was sent.
- A dispatched one becomes an `interrupted` record at the slot's counts; where nothing had been delivered, a record of 0.
- A slot whose record is in the log is skipped: the log beats the slot.
- A slot that says its record is in the log, where the log has it no more, makes a record at its counts and gives it back:
  our disk lost what the call ended as. So does nothing that could not be read make a record: the folder is set aside.
- The holds of all these calls end by what their records say, or are released where nothing was sent.
- What was interrupted is given back by the table of refunds: where the customer can repeat the request for its answer (an
  Idempotency-Key, I7), or never saw what was made (an agent of a mode). Without either, what was delivered is billed (I1).

Recovered records are appended to the folder's own log before anything else happens, so that a recovery that dies itself is
recovered the same way. Everything here blocks: run it in a thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from museway_billing.holds import Recover, Release
from museway_billing.journal.format import (
    OtherVersion,
    encode_record,
    make_frame,
    segment_header,
    segment_path,
    segment_paths,
)
from museway_billing.journal.home import Home, sync_folder
from museway_billing.journal.slots import SlotImage, SlotState, header_is_whole, read_slots
from museway_billing.journal.tail import RECOVERY_JUMP, Tail, has_hole, last_sequence
from museway_billing.meter import from_slot
from museway_billing.meter.refunds import REFUNDS, Outcome
from museway_billing.money import NanoUsd
from museway_billing.usage import CallIdentity, UsageRecord

log = logging.getLogger("museway.recovery")

SET_ASIDE = "damaged"
"""Folder beside the journals for those with parts that cannot be read: drained as far as possible, kept for inspection."""


class Claimed(Struct):
    """A dead process's journal, ours now. `recovered`: the records made of its open slots.

    `holds`: by hold id, how each hold that was open ends, for a limiter that outlived the process. Ending one again is
    harmless.
    """

    home: Home
    tail: Tail
    recovered: tuple[UsageRecord, ...]
    holds: dict[str, Recover | Release]
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

    A folder of a format that this program does not read is said in the log and left untouched, for the one that wrote it.
    Raises OSError where the disk has no room for the recovered records; those that were claimed so far are free again.
    Nothing is lost: the next attempt finds the same.
    """
    claimed: list[Claimed] = []
    if not directory.is_dir():
        return claimed
    try:
        for path in sorted(directory.iterdir()):
            if path.name == SET_ASIDE or not path.is_dir():
                continue
            try:
                home = Home.claim(path)
                if home is not None:
                    claimed.append(_recover(home, ended))
            except OtherVersion as refusal:
                log.error("journal not recovered: %s", refusal)  # noqa: TRY400 - the message says all
    except BaseException:
        for one in claimed:
            one.home.release()
        raise
    return claimed


def _recover(home: Home, ended: int) -> Claimed:
    try:
        file = home.path / "slots"
        slots = list(read_slots(file)) if file.exists() else []
        damaged = _damage(home, slots)
        wanted = {slot.identity.record_id for slot in slots if slot.identity is not None}
        records = {record.id: record for record in _logged(home, wanted)}
        lost = {
            slot.identity.record_id
            for slot in slots
            if slot.state is SlotState.RECORDED and slot.identity and slot.identity.record_id not in records
        }
        damaged += [f"record {record_id}" for record_id in sorted(lost)]
        recovered = [
            _record(slot, ended, lost=slot.identity.record_id in lost)
            for slot in slots
            if slot.state in (SlotState.DISPATCHED, SlotState.RECORDED)
            and slot.identity
            and slot.identity.record_id not in records
        ]
        records |= {record.id: record for record in recovered}
        _append(home, recovered)
    except BaseException:
        home.release()
        raise
    if damaged:
        log.error(
            "journal %s is damaged (%s): what can be read is drained, the folder is then set aside",
            home.id,
            ", ".join(damaged),
        )
    return Claimed(
        home=home,
        # Nothing is deleted before all is drained: slots that stand beside a log without their records look like damage.
        tail=Tail(home.path, id=home.id, epoch=home.epoch, needed=lambda: 0),
        recovered=tuple(recovered),
        holds=_holds(slots, records),
        damaged=tuple(damaged),
    )


def _damage(home: Home, slots: Iterable[SlotImage]) -> list[str]:
    """What of the folder cannot be as it was written."""
    damaged = ["epoch"] if home.is_damaged else []
    file = home.path / "slots"
    if file.exists() and not header_is_whole(file):
        damaged.append("slots")
    damaged += [f"slot {slot.index}" for slot in slots if slot.identity is None]
    return damaged + [path.name for first, path in segment_paths(home.path) if has_hole(first, path)]


def _holds(slots: Iterable[SlotImage], records: Mapping[str, UsageRecord]) -> dict[str, Recover | Release]:
    """A slot is freed after its hold has ended: so these are the holds that had not, with all their calls."""
    holds: dict[str, Recover | Release] = {}
    for slot in slots:
        if slot.identity is None:
            continue
        before = holds.get(slot.identity.hold_id, Release())
        record = records.get(slot.identity.record_id)
        if record is not None:
            used = before.used if isinstance(before, Recover) else 0
            before = Recover(NanoUsd(used + record.taken_nano_usd))
        holds[slot.identity.hold_id] = before
    return holds


def _logged(home: Home, wanted: set[str]) -> list[UsageRecord]:
    """Those of these records that are in the log already."""
    found: list[UsageRecord] = []
    tail = Tail(home.path, id=home.id, epoch=home.epoch)
    while wanted and (records := tail.read(500).records):
        found += [record for record in records if record.id in wanted]
    return found


def _record(slot: SlotImage, ended: int, *, lost: bool) -> UsageRecord:
    identity = slot.identity
    assert identity is not None
    outcome = Outcome.RECORD_LOST if lost else _outcome(identity)
    return from_slot(
        identity,
        worker=slot.worker or "unknown",
        prompt=slot.prompt,
        cached=slot.cached,
        reasoning=slot.reasoning,
        output=slot.output,
        ended=max(ended, identity.created),
        credit=REFUNDS[outcome].given_back,
    )


def _outcome(identity: CallIdentity) -> Outcome:
    if identity.internal:
        return Outcome.PROCESS_DIED_INTERNAL
    return Outcome.PROCESS_DIED_KEYED if identity.idempotency_hash else Outcome.PROCESS_DIED


def _append(home: Home, records: list[UsageRecord]) -> None:
    """A further segment with these records, durable and complete when it gets its name."""
    if not records:
        return
    first = last_sequence(home.path) + RECOVERY_JUMP + 1
    frames = (make_frame(number, encode_record(record)) for number, record in enumerate(records, start=first))
    new = home.path / "recovered"
    with new.open("wb") as file:
        file.write(segment_header(first) + b"".join(frames))
        file.flush()
        os.fsync(file.fileno())
    new.rename(segment_path(home.path, first))
    sync_folder(home.path)
