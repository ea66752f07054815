"""One line a request, written together: a system call and a formatter for each would cost as much as admitting it.

Lines leave within a tenth of a second, and at the latest when the process ends in order. What a `kill -9` loses here is a
line of a log; the record of what was used is in the journal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

GATHER_S = 0.1
LINES_MAX = 4096
"""Beyond these waiting lines are written at once, on the event loop, rather than lost."""

_encode = msgspec.json.Encoder().encode_into


class RequestLine(Struct, omit_defaults=True, kw_only=True, tag_field="logger", tag="museway.request"):
    """What is kept of a request. Never a body, a key's secret or a prompt."""

    time: datetime
    level: Literal["info", "warning", "error"]
    request_id: str
    route: str
    status: int
    mode: str
    duration_ms: int
    organization: str | None = None
    key: str | None = None
    cost_nano_usd: int | None = None
    code: str | None = None


def now() -> datetime:
    return datetime.now(UTC)


class RequestLog:
    """Gathers lines; `run` writes them to standard error until cancelled, then what is left."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stderr.fileno() if descriptor is None else descriptor
        self._buffer = bytearray()
        self._lines = 0

    def add(self, line: RequestLine) -> None:
        _encode(line, self._buffer, -1)
        self._buffer += b"\n"
        self._lines += 1
        if self._lines >= LINES_MAX:
            self.write()

    def write(self) -> None:
        data, self._buffer, self._lines = self._buffer, bytearray(), 0
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(GATHER_S)
                if self._lines:
                    self.write()
        finally:
            self.write()
