"""Why the journal refuses. The API answers all of them with 503: nobody is served without a journal."""

from __future__ import annotations


class JournalFull(Exception):
    """No room for one more open call: all slots are taken, or the disk cannot hold its end record. Nothing was changed.

    Raised at the door only; a call that has its slot always has room for its record.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"the journal has no room: {what}")
        self.what = what


class JournalBroken(Exception):
    """A write or sync failed. The log cannot be trusted from here on: the process must stop and be recovered."""


class JournalClosed(Exception):
    """The journal is closed or being closed."""
