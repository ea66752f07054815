"""Structured logs: one JSON object a line on standard error. Never a body, a prompt, a key or a card number.

Nothing here knows what is in a request: what may be logged are the fields that a caller passes by name (`extra`), and the
redaction below is a net under that rule, not the rule.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from contextvars import ContextVar
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

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request in whose task we are: records that don't say it themselves carry it, those of other rooms too."""

_SECRET = re.compile(
    r"mw_(?:live|test)_[0-9A-Za-z]{8,}"
    r"|(?i:bearer)\s+\S+"
    r"|\b(?:sk|rk|whsec)[-_][0-9A-Za-z_-]{12,}"  # keys of payment and model providers
    r"|(?<=://)[^/\s@]+@"  # who logs in at a URL, and with what
)
_DIGITS = re.compile(r"(?<![0-9A-Za-z.])(?:\d[ -]?){12,18}\d(?![0-9A-Za-z])")
_REDACTED = "[redacted]"
_OURS = "museway_"
_encode = msgspec.json.Encoder().encode


def configure(level: int = logging.INFO) -> None:
    """Send every log record of this process through the one formatter. Idempotent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def redact(text: str) -> str:
    """`text` without what looks like a secret, credentials in a URL or a card number."""
    return _DIGITS.sub(_card, _SECRET.sub(_REDACTED, text))


def _card(match: re.Match[str]) -> str:
    """Card numbers end in a check digit (Luhn): a count, a time or an id is rarely taken for one."""
    digits = [int(character) for character in match[0] if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return _REDACTED if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else match[0]


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. Of an exception: its type and where it was raised; its message only if the type is
    ours, for in a library's message may stand what a customer sent."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
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
        link: dict[str, object] = {"type": type(cause).__qualname__, "at": frames[-8:]}
        if type(cause).__module__.startswith(_OURS):
            link["message"] = redact(str(cause))
        found.append(link)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found
