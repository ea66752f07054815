"""The book: what this worker really did for every call, the truth that a bill is compared with."""

import time
from collections import deque
from typing import Literal

from msgspec import Struct

from doubles.fake_worker.shapes import JsonObject

_ENTRIES_MAX = 200_000
_REQUESTS_MAX = 2_000


class Entry(Struct, kw_only=True):
    """One call. Counts in tokens; times in seconds of the machine's monotonic clock."""

    rid: str
    route: Literal["chat", "generate"]
    stream: bool
    salt: str
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    """Made, whoever read them: what the final usage reports, or would have."""
    reasoning: int = 0
    sent: int = 0
    """The count that the last written content carried: tokens made when the last byte of text left."""
    sent_bytes: int = 0
    """Bytes of events or of the whole answer handed to the socket."""
    usage_sent: bool = False
    """The final usage was written to a connection that still stood."""
    finish: str | None = None
    text: str = ""
    choices: int = 1
    began: float = 0.0
    first_token: float | None = None
    ended: float | None = None
    aborted: float | None = None
    """When `/abort_request` named it."""
    disconnected: float | None = None
    """When the closed connection was noticed."""


class Book:
    """Entries by the time they began; the oldest go beyond 200,000."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=_ENTRIES_MAX)
        self.requests: deque[JsonObject] = deque(maxlen=_REQUESTS_MAX)
        self.refused = 0

    def open(self, entry: Entry) -> Entry:
        entry.began = time.monotonic()
        self.entries.append(entry)
        return entry

    def of(self, prefix: str) -> list[Entry]:
        """Entries whose rid begins so."""
        return [e for e in self.entries if e.rid.startswith(prefix)]

    def clear(self) -> None:
        self.entries.clear()
        self.requests.clear()
        self.refused = 0
