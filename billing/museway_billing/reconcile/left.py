"""What the journals on this disk still hold. Reads beside living processes and changes nothing; blocks: run it in a thread."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from museway_billing.journal.format import JournalDamaged
from museway_billing.journal.recovery import SET_ASIDE
from museway_billing.journal.slots import SlotState, read_slots
from museway_billing.journal.tail import Tail, last_sequence
from museway_billing.reconcile.report import Check, Difference, JournalLeft


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
    tail = Tail(home, id=home.name, epoch=0)
    tail.seek(drained)
    records = amount = open_slots = 0
    holds: list[str] = []
    try:
        while batch := tail.read(500).records:
            records += len(batch)
            amount += sum(record.amount_nano_usd - record.credited_nano_usd for record in batch)
        for slot in read_slots(home / "slots") if (home / "slots").exists() else ():
            open_slots += 1
            if slot.identity is None:
                yield _difference(home.name, "a slot that can be read", f"slot {slot.index} is damaged")
            elif slot.state is not SlotState.RECORDED:
                holds.append(slot.identity.hold_id)
    except FileNotFoundError:
        return  # its process drained it and deleted it under our eyes
    except JournalDamaged as damaged:
        yield _difference(home.name, "a journal that can be read", str(damaged))
    for path in tail.damaged:
        yield _difference(home.name, "a segment that can be read", path.name)
    if 0 < last_sequence(home) < drained:
        yield _difference(home.name, f"at least {drained} records", str(last_sequence(home)))
    yield JournalLeft(
        id=home.name,
        alive=_lives(home),
        records=records,
        amount=amount,
        open_slots=open_slots,
        holds=tuple(dict.fromkeys(holds)),
    )


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
