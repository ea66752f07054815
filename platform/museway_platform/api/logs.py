"""Structured logs: one JSON object a line on standard error. Never a body, a prompt, a key or a card number.

Nothing here knows what is in a request: what may be logged are the fields that a caller passes by name (`extra`), and the
redaction below is a net under that rule, not the rule.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from datetime import UTC, datetime

import msgspec

FIELDS = (
    "request_id",
    "route",
    "status",
    "mode",
    "duration_ms",
    "organization",
    "key",
    "code",
    "cost_nano_usd",
    "error",
)
"""What a record may carry besides its message."""

_SECRET = re.compile(r"mw_(?:live|test)_[0-9A-Za-z]{8,}|\b(?:\d[ -]?){13,19}\b")
_REDACTED = "[redacted]"
_encode = msgspec.json.Encoder().encode


def configure(level: int = logging.INFO) -> None:
    """Send every log record of this process through the one formatter. Idempotent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def redact(text: str) -> str:
    """`text` without anything that looks like a key of ours or a card number."""
    return _SECRET.sub(_REDACTED, text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. Of an exception: its type and where it was raised, not its message (data may be in it)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                line[field] = redact(value) if isinstance(value, str) else value
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["exception"] = _chain(record.exc_info[1])
        return _encode(line).decode()


def _chain(error: BaseException) -> list[dict[str, object]]:
    """The exception and what caused it, the nearest first."""
    found: list[dict[str, object]] = []
    cause: BaseException | None = error
    while cause is not None and len(found) < 5:
        frames = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(cause.__traceback__)
        ]
        found.append({"type": type(cause).__qualname__, "at": frames[-8:]})
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found
