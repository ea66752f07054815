"""Server-sent events from bytes that may be cut anywhere. Pure: feed it, it gives the data of whole events."""

from __future__ import annotations

from museway.errors import InvalidAnswerError

MAX_EVENT_BYTES = 16 << 20
"""A server that never ends an event must not fill our memory."""


class EventReader:
    """Reads the `data` of events (WHATWG: lines end in LF, CR or CRLF; comments and other fields are skipped).

    `last_id` is the `id` of the last whole event that had one.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.last_id: str | None = None
        self._id: str | None = None
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece ends. Raises InvalidAnswerError above `max_event_bytes`."""
        if not piece:
            return []
        rest = piece[1:] if self._after_cr and piece.startswith(b"\n") else piece
        self._after_cr = piece.endswith(b"\r")
        piece = rest
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._line += piece
        if b"\n" not in piece:
            self._check(len(self._line))
            return []
        lines = bytes(self._line).split(b"\n")
        self._line = bytearray(lines.pop())
        events: list[bytes] = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
                self.last_id = self._id
        self._check(len(self._line))
        return events

    def _field(self, line: bytes) -> None:
        if not line.startswith((b"data", b"id")):
            return
        name, _, value = line.partition(b":")
        if name == b"id" and b"\0" not in value:
            self._id = value.removeprefix(b" ").decode(errors="replace")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._size += len(value)

    def _check(self, line: int) -> None:
        if self._size + line > self._max_event_bytes:
            raise InvalidAnswerError("The server sent an event that does not end.")
