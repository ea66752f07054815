"""Metering that survives the process: slots and a log on local disk, drained to PostgreSQL behind the caller's back."""

from museway_billing.journal.errors import JournalBroken, JournalClosed, JournalFull
from museway_billing.journal.format import JournalDamaged
from museway_billing.journal.journal import Journal, Slot
from museway_billing.journal.tail import Batch, Tail

__all__ = ["Batch", "Journal", "JournalBroken", "JournalClosed", "JournalDamaged", "JournalFull", "Slot", "Tail"]
