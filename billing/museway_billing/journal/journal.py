"""A process's journal: one slot while a call runs, one durable record when it has ended. Waits for no database."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Self

from museway_billing.journal.errors import JournalBroken, JournalClosed, JournalFull
from museway_billing.journal.format import encode_record
from museway_billing.journal.home import Home
from museway_billing.journal.log import Log
from museway_billing.journal.slots import SlotFile, SlotState, encode_identity
from museway_billing.journal.tail import Tail
from museway_billing.usage import CallIdentity, UsageRecord

SLOTS = 4096
SEGMENT_BYTES = 8 << 20


class Slot:
    """The counters of one open call, in memory that outlives the process. All methods are synchronous and cheap."""

    __slots__ = ("_counts", "_file", "_index", "_journal", "_state", "identity")

    def __init__(self, journal: Journal, file: SlotFile, index: int, identity: CallIdentity) -> None:
        self._journal = journal
        self._file = file
        self._index = index
        self._state = SlotState.OPEN
        self._counts = (-1, -1, 0, 0)
        self.identity = identity

    def dispatched(self, worker: str) -> None:
        """The next thing that happens is that bytes leave for `worker`. From here on the call makes a record."""
        assert self._state is SlotState.OPEN
        self._file.name_worker(self._index, worker)
        self._state = SlotState.DISPATCHED
        self._file.write(self._index, SlotState.DISPATCHED, *self._counts)

    def update(self, prompt: int, cached: int, reasoning: int, output: int) -> None:
        """Cumulative counts; -1 is unknown. Call it before the bytes that it counts leave for the client."""
        self._counts = (prompt, cached, reasoning, output)
        self._file.write(self._index, self._state, prompt, cached, reasoning, output)

    def recorded(self) -> None:
        """The call's record is durable: recovery has nothing to add. The journal calls this."""
        if self._state is SlotState.FREE:
            return
        self._state = SlotState.RECORDED
        self._file.write(self._index, SlotState.RECORDED, *self._counts)

    def free(self) -> None:
        """The call's hold has ended: forget the call. Idempotent."""
        if self._state is not SlotState.FREE:
            self._state = SlotState.FREE
            self._file.write(self._index, SlotState.FREE, 0, 0, 0, 0)
            self._journal.forget(self, self._index)


class _Entry:
    """A call between its slot and its slot's end, or a record without a slot. `sequence` is 0 until its record is queued."""

    __slots__ = ("failure", "is_durable", "sequence", "slot", "waiting")

    def __init__(self, slot: Slot | None) -> None:
        self.slot = slot
        self.sequence = 0
        self.is_durable = False
        self.failure: JournalBroken | None = None
        self.waiting: list[asyncio.Future[None]] = []

    def ended(self, failure: JournalBroken | None) -> None:
        """The record is durable, or never will be: tell the slot, then whoever waits."""
        self.failure = failure
        self.is_durable = failure is None
        if self.is_durable and self.slot is not None:
            self.slot.recorded()
        for waiter in self.waiting:
            if waiter.done():
                continue
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)
        self.waiting.clear()


class Journal:
    """One process's journal. Belongs to the event loop that opened it. Nothing here may be called from a thread."""

    def __init__(self, home: Home, slots: SlotFile, log: Log) -> None:
        self._home = home
        self._slots = slots
        self._log = log
        self._free = list(range(slots.count - 1, -1, -1))
        self._entries: dict[str, _Entry] = {}
        self._appended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.pending = Tail(
            home.path, id=home.id, epoch=home.epoch, durable=lambda: log.durable_sequence, needed=self._oldest_unsettled
        )
        """The durable records, for the drain."""

    @classmethod
    async def open(
        cls, directory: Path, *, process: str, slots: int = SLOTS, segment_bytes: int = SEGMENT_BYTES
    ) -> Self:
        """A new journal in a folder of its own below `directory`, named after `process` and a random number.

        What a dead process of the same name left is not touched: `recovery.claim_dead` does that. Raises JournalFull where
        the disk has no room for `slots` KiB and one segment. Never suspends but for the file system.
        """
        home = Home.create(directory, process)
        try:
            file = SlotFile(home.path / "slots", slots)
        except OSError as error:
            home.remove()
            raise JournalFull(f"slots: {error.strerror}") from error
        try:
            log = Log(home.path, next_sequence=1, segment_bytes=segment_bytes)
        except JournalFull:
            file.close()
            home.remove()
            raise
        return cls(home, file, log)

    @property
    def id(self) -> str:
        """The journal's name in PostgreSQL's registry, unique for ever."""
        return self._home.id

    @property
    def epoch(self) -> int:
        return self._home.epoch

    @property
    def open_slots(self) -> int:
        """Slots in use: calls that run, or wait for their hold to be settled."""
        return len(self._entries)

    @property
    def last_sequence(self) -> int:
        """The number of the last record queued, 0 for none."""
        return self._log.next_sequence - 1

    @property
    def durable_sequence(self) -> int:
        return self._log.durable_sequence

    def open_slot(self, identity: CallIdentity) -> Slot:
        """A slot for a call that is about to be sent, and room for its record. Never suspends.

        Raises JournalFull (all slots taken, or no room on the disk), JournalBroken, JournalClosed: nothing may be sent.
        """
        assert identity.record_id not in self._entries, identity.record_id
        if self._closed:
            raise JournalClosed
        if not self._free:
            raise JournalFull(f"all {self._slots.count} slots are taken")
        data = encode_identity(identity)
        self._log.reserve()
        index = self._free.pop()
        self._slots.begin(index, data)
        slot = Slot(self, self._slots, index, identity)
        self._entries[identity.record_id] = _Entry(slot)
        return slot

    def forget(self, slot: Slot, index: int) -> None:
        """`Slot.free` calls this: the slot can be used again, and so can the room of a record that was never written."""
        entry = self._entries.pop(slot.identity.record_id)
        if not entry.sequence:
            self._log.unreserve()
        self._free.append(index)

    async def append(self, record: UsageRecord) -> None:
        """Durable (written and fdatasynced) when it returns. Written once, however often and whether or not it is awaited
        to the end: a cancelled waiter may call it again. Raises JournalBroken, and JournalFull for a record without a slot.
        """
        entry = self._entries.get(record.id)
        if entry is None or not entry.sequence:
            payload = encode_record(record)
            if entry is None:
                self._log.reserve()
                entry = _Entry(None)
            entry.sequence = self._log.append(payload, partial(self._when_ended, entry))
        if entry.is_durable:
            return
        if entry.failure is not None:
            raise entry.failure
        waiter: asyncio.Future[None] = self._loop.create_future()
        entry.waiting.append(waiter)
        await waiter

    def _oldest_unsettled(self) -> int:
        """The first record whose hold may not have ended: recovery would need it to end the hold."""
        numbers = (entry.sequence for entry in self._entries.values() if entry.is_durable)
        return min(numbers, default=self._log.next_sequence)

    def _when_ended(self, entry: _Entry, failure: JournalBroken | None) -> None:
        entry.ended(failure)
        self._appended.set()

    async def appended(self) -> None:
        """Wait until a record has become durable since the last call of this: the drain's bell. One waiter.

        Raises JournalBroken once a write has failed: what waits for the bell is a task that the process can't live without.
        """
        await self._appended.wait()
        if self._log.failure is not None:
            raise JournalBroken(str(self._log.failure)) from self._log.failure
        self._appended.clear()

    async def unsettled(self, request_id: str) -> bool:
        """Whether a call of this request still runs, or its record is not drained yet. Reads what is undrained: for receipts,
        never on the way of a request."""
        if any(entry.slot and entry.slot.identity.request_id == request_id for entry in self._entries.values()):
            return True
        return await asyncio.to_thread(self._is_pending, request_id)

    def _is_pending(self, request_id: str) -> bool:
        while True:
            tail = Tail(self._home.path, id=self.id, epoch=self.epoch, durable=lambda: self._log.durable_sequence)
            tail.seek(self.pending.drained_sequence)
            try:
                while records := tail.read(500).records:
                    if any(record.request_id == request_id for record in records):
                        return True
            except FileNotFoundError:
                continue  # the drain was faster: look again from where it is now
            return False

    async def close(self) -> None:
        """Make what is queued durable and let go of the folder. It is removed if it holds nothing that is not drained;
        else the next process on this disk claims it. Call it after the drain's last `flush`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._log.close()
        self._slots.close()
        if not self._entries and self.pending.drained_sequence == self.last_sequence:
            self._home.remove()
        else:
            self._home.release()
