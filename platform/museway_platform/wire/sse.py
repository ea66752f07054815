"""Server-sent events as we write them: one `data:` line an event. Reading them is the worker's and the SDK's business."""

from __future__ import annotations

from typing import Final

DATA: Final = b"data: "
END: Final = b"\n\n"
DONE: Final = b"data: [DONE]\n\n"
"""OpenAI's last event of a chat stream."""

KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment: clients ignore it, proxies see bytes."""


def data(json: bytes) -> bytes:
    """One event. `json` may not hold a raw line break (JSON encoders write none)."""
    return b"data: %b\n\n" % json


def comment(text: str) -> bytes:
    """A comment line that every client ignores. `text` may not hold a line break."""
    return b": %b\n\n" % text.encode()
