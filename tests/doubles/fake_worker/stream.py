"""The event stream of one answer, with the ways in which a script makes it go wrong."""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from doubles.fake_worker.engine import Run
from doubles.fake_worker.http import Connection

DONE = b"data: [DONE]\n\n"
Encode = Callable[[Any], bytes]


def encoder(*, spaces: bool) -> Encode:
    """JSON bytes: compact UTF-8, or with spaces and ASCII only."""
    return _spaced if spaces else msgspec.json.encode


def _spaced(value: Any) -> bytes:
    return json.dumps(value).encode()


class EventStream:
    """Writes events and keeps the book's account of what left. The head is sent with the first event."""

    def __init__(self, connection: Connection, run: Run, encode: Encode) -> None:
        self._connection = connection
        self._run = run
        self._encode = encode
        self._held: list[bytes] = []
        self._begun = False
        connection.split_bytes = run.behaviour.split_bytes

    def event(self, payload: Any, *, count: int | None = None) -> None:
        """One event; `count` is the number of tokens made when it carries text."""
        self._send(b"data: %b\n\n" % self._encode(payload))
        if count is not None and not self._connection.is_gone:
            self._run.entry.sent = count

    def error(self, payload: Any) -> None:
        """An error event; SGLang writes it with spaces, whatever its other events have."""
        self._send(b"data: %b\n\n" % _spaced(payload))

    def malformed(self) -> None:
        self._send(b'data: {"id": "x", "choices": [{"index\n\n')

    def half(self, payload: Any) -> None:
        """The first half of an event, and the end of the connection."""
        data = b"data: %b\n\n" % self._encode(payload)
        self._send(data[: len(data) // 2])
        self.close()

    def close(self) -> None:
        """Close the connection in the middle of the stream."""
        self.flush()
        self._connection.close()

    def usage_written(self) -> None:
        """The final count is on its way."""
        self._run.entry.usage_sent = not self._connection.is_gone

    def end(self) -> None:
        if self._run.behaviour.done:
            self._send(DONE)
        self.flush()
        self._connection.end_stream()

    def flush(self) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            if not self._begun:
                self._connection.start_stream()
                self._begun = True
            if not self._connection.is_gone:
                self._run.entry.sent_bytes += len(data)
            self._connection.chunk(data)

    def _send(self, data: bytes) -> None:
        self._held.append(data)
        if len(self._held) >= self._run.behaviour.events_per_write:
            self.flush()
