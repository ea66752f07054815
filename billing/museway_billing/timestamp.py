"""Points in time as they travel: integers of microseconds since the epoch in records, aware datetimes in PostgreSQL,
RFC 3339 on paper. Exact in both directions: no fraction of a second passes through a binary fraction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_datetime(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(at: datetime) -> int:
    """`at` is aware; its own time zone does not matter."""
    return (at - EPOCH) // _MICROSECOND


def rfc3339(microseconds: int) -> str:
    """UTC with exactly six digits: `2025-01-31T12:00:00.000001Z`."""
    at = to_datetime(microseconds)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06}Z"
