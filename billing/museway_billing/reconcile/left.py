"""What the journals on this disk still hold. Reads beside living processes and changes nothing; blocks: run it in a thread."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from museway_billing.journal.format import JournalDamaged
from museway_billing.journal.home import check_version
from museway_billing.journal.recovery import SET_ASIDE
from museway_billing.journal.slots import SlotImage, SlotState, read_slot, read_slots
from museway_billing.journal.tail import Tail, last_sequence
from museway_billing.reconcile.report import Check, Difference, JournalLeft

_ATTEMPTS = 20


def journals_left(directory: Path, drained: dict[str, int]) -> Iterator[JournalLeft | Difference]:
    """One entry per folder, and a difference for each that is damaged or behind PostgreSQL's `drained` numbers.

    Of a living process it is a picture of the moment: a record may be counted here that is drained a moment later.
    """
    if not directory.is_dir():
        return
    for home in sorted(directory.iterdir()):
        if home.name == SET_ASIDE:
            for damaged in sorted(home.iterdir()):
                yield _difference(damaged.name, "a journal that can be read", "set aside as damaged")
        elif home.is_dir() and (home / "epoch").exists():
            yield from _one(home, drained.get(home.name, 0))


def _one(home: Path, drained: int) -> Iterator[JournalLeft | Difference]:
    """A living process drains and deletes under our eyes: then its folder is read again."""
    for _ in range(_ATTEMPTS):
        try:
            yield from list(_picture(home, drained))
        except FileNotFoundError:
            if not (home / "epoch").exists():
                return  # drained to its end, and gone
        else:
            return


def _picture(home: Path, drained: int) -> Iterator[JournalLeft | Difference]:
    end = last_sequence(home)  # a living process goes on writing: what comes after this look is the next look's
    tail = Tail(home, id=home.name, epoch=0, durable=lambda: end)
    tail.seek(drained)
    records = amount = 0
    try:
        check_version(home)
        while batch := tail.read(500).records:
            records += len(batch)
            amount += sum(record.taken_nano_usd for record in batch)
    except JournalDamaged as damaged:
        yield _difference(home.name, "a journal that can be read", str(damaged))
        return
    slots, unreadable = _open_slots(home / "slots")
    for index in unreadable:
        yield _difference(home.name, "a slot that can be read", f"slot {index} is damaged")
    for path in tail.damaged:
        yield _difference(home.name, "a segment that can be read", path.name)
    if 0 < end < drained:
        yield _difference(home.name, f"at least {drained} records", str(end))
    yield JournalLeft(
        id=home.name,
        alive=_lives(home),
        records=records,
        amount=amount,
        open_slots=len(slots),
        holds=tuple(
            dict.fromkeys(slot.identity.hold_id for slot in slots if slot.identity is not None and _runs(slot))
        ),
    )


def _runs(slot: SlotImage) -> bool:
    return slot.state is not SlotState.RECORDED


def _open_slots(file: Path) -> tuple[list[SlotImage], list[int]]:
    """The slots that can be read, and the numbers of those that can't. A living process writes while we read: a slot is
    damaged if it is so at every look."""
    slots = list(read_slots(file)) if file.exists() else []
    unreadable = [slot.index for slot in slots if slot.identity is None]
    for _ in range(_ATTEMPTS):
        unreadable = [
            index for index in unreadable if (again := read_slot(file, index)) is not None and again.identity is None
        ]
    return [slot for slot in slots if slot.identity is not None], unreadable


def _lives(home: Path) -> bool:
    """Whether somebody holds the folder's lock. Tries it shared, so that two who look do not mistake each other."""
    try:
        lock = os.open(home / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _difference(journal: str, expected: str, found: str) -> Difference:
    return Difference(check=Check.JOURNAL, organization=None, id=journal, expected=expected, found=found)
