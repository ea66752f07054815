"""Long steps as they are seen at a prompt: one line each, alive in a terminal, plain through a pipe."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_REPEAT_S = 15.0


class Steps:
    """`museway_engine.runtime.progress.Progress` on a stream.

    In a terminal the line of the running step is rewritten, with seconds, bytes and share; elsewhere a step gets a line
    when it ends, and one every 15 s while it lasts, so that a log of CI shows life without a thousand lines.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._name = ""
        self._began = self._told = 0.0

    def step(self, name: str) -> None:
        if self._live and self._name:
            self._write("\n")  # the step before failed or was never ended: its line stays
        self._name = name
        self._began = self._told = time.monotonic()
        if self._live:
            self._write(f"  {name} …")

    def update(self, done_bytes: int | None, total: int | None) -> None:
        now = time.monotonic()
        text = f"  {self._name} … {_seconds(now - self._began)}{_amount(done_bytes, total)}"
        if self._live:
            self._write(f"\r\x1b[K{text}")
        elif now - self._told >= _REPEAT_S:
            self._told = now
            self._write(f"{text}\n")

    def done(self, seconds: float, size_bytes: int | None) -> None:
        mark = "\r\x1b[K\x1b[32m✓\x1b[0m" if self._live else "✓"
        self._write(f"{mark} {self._name}  {_seconds(seconds)}{_amount(size_bytes, None)}\n")
        self._name = ""

    def abandon(self) -> None:
        """Leave the line of a step that did not end; what is written next begins on a line of its own."""
        if self._live and self._name:
            self._write("\n")
        self._name = ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def _amount(done: int | None, total: int | None) -> str:
    if done is None:
        return ""
    if not total:
        return f", {size(done)}"
    return f", {size(done)} of about {size(total)}"


def size(count: int) -> str:
    """`93 MB`: decimal units, as download pages have them."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= power:
            return f"{count / power:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{count} bytes"
