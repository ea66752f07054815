"""Whether and when to try again. Pure: no clock, randomness passed in."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from museway import errors
from museway.errors import MusewayError, StatusError


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """At most `max_retries` more tries, after `first_s` seconds, doubling up to `most_s`, each shortened at random by up
    to a quarter. A server's `retry-after` is honoured up to `longest_wait_s`; beyond it the error is raised at once.

    Every try of one call carries the same Idempotency-Key, so that none is billed twice.
    """

    max_retries: int = 2
    first_s: float = 0.5
    most_s: float = 8.0
    longest_wait_s: float = 60.0

    def delay_s(self, tried: int, error: MusewayError, random: Callable[[], float]) -> float | None:
        """Seconds to wait after the `tried`-th try failed with `error`; None where it is to be raised."""
        if tried > self.max_retries or not _worth_it(error):
            return None
        asked = error.retry_after if isinstance(error, StatusError) else None
        if asked is not None:
            return asked if asked <= self.longest_wait_s else None
        backoff = min(self.most_s, self.first_s * float(2 ** (tried - 1)))
        return backoff * (1 - random() / 4)


def _worth_it(error: MusewayError) -> bool:
    """The server's word counts first. Without it: what passes by itself. A 409 only where the server says when."""
    if not isinstance(error, StatusError):
        return isinstance(error, errors.ConnectionError)
    if error.should_retry is not None:
        return error.should_retry
    if error.status == 409:
        return error.retry_after is not None
    return error.status in (408, 429) or error.status >= 500
