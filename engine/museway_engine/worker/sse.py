"""Bytes of a stream → the payloads of its events. An event may be split anywhere over reads; several come in one."""

from __future__ import annotations

from typing import Final

DONE: Final = b"[DONE]"
_END: Final = b"\n\n"
_EVENT_BYTES_MAX = 16 * 1024 * 1024


class EventTooLong(Exception):
    """A worker sent 16 MiB without an end of event."""


class EventSplitter:
    """Keeps what follows the last complete event. Comments and other fields than `data` are dropped."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads completed by `data`, `[DONE]` among them. Raises EventTooLong."""
        if not self._tail and data.startswith(b"data: ") and data.endswith(_END) and data.count(b"\n") == 2:
            return [data[6:-2]]  # one whole event, the common case
        if b"\r" in data:  # JSON escapes it: one on the wire is part of a line end
            data = data.replace(b"\r", b"")
        if self._tail:
            data = self._tail + data
        events = data.split(_END)
        self._tail = events.pop()
        if len(self._tail) > _EVENT_BYTES_MAX:
            raise EventTooLong
        return [e[6:] if e.startswith(b"data: ") and b"\n" not in e else _payload(e) for e in events]


def _payload(event: bytes) -> bytes:
    """The general way: `data` lines joined, one space after the colon optional; b"" where there is none."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
