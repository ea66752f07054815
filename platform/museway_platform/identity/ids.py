"""Ids: a prefix that says what it is, and a ULID (48 bits of milliseconds, 80 random bits, Crockford base32).

Ids of one process sort in the order they were made, within a millisecond too: the random part then counts up, as the
ULID specification has it. A clock that is set back does not take ids back: the last millisecond holds until the clock is
past it. Made by one thread of a process, the event loop's; two threads at once could be given the same id.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_RANDOM_END = 1 << 80
_RANDOM_GATHERED = 4096


class Ulids:
    """A source of ULIDs. `new_id` uses the process's own; tests bring a clock (ns since the epoch) and randomness."""

    __slots__ = ("_clock_ns", "_gathered", "_millisecond", "_random", "_second", "_tail", "_time", "_used")

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns, random: Callable[[int], bytes] = os.urandom) -> None:
        self._clock_ns = clock_ns
        self._random = random
        self.restart()

    def next(self) -> str:
        """26 characters."""
        millisecond = self._clock_ns() // 1_000_000
        if millisecond > self._millisecond:
            self._begin(millisecond)
        else:
            # By a random step, so that an id tells nobody how many others there were.
            self._tail += 1 + int.from_bytes(self._take(3), "big")
            if self._tail >= _RANDOM_END:
                self._begin(self._millisecond + 1)
        tail, pair = self._tail, _PAIRS
        return (
            f"{self._time}{pair[tail >> 70]}{pair[tail >> 60 & 1023]}{pair[tail >> 50 & 1023]}{pair[tail >> 40 & 1023]}"
            f"{pair[tail >> 30 & 1023]}{pair[tail >> 20 & 1023]}{pair[tail >> 10 & 1023]}{pair[tail & 1023]}"
        )

    def restart(self) -> None:
        """Forget the last id and what randomness is left: a forked child would else go on from its parent's."""
        self._gathered, self._used = b"", 0
        self._second = (-1, "")  # the part of the time that stays for a second or so
        self._begin(0)

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        pair = _PAIRS
        if millisecond >> 10 != self._second[0]:
            self._second = (
                millisecond >> 10,
                f"{pair[millisecond >> 40 & 1023]}{pair[millisecond >> 30 & 1023]}{pair[millisecond >> 20 & 1023]}"
                f"{pair[millisecond >> 10 & 1023]}",
            )
        self._time = self._second[1] + pair[millisecond & 1023]
        self._tail = int.from_bytes(self._take(10), "big")

    def _take(self, size: int) -> bytes:
        """Randomness, fetched by the page: a system call for each id costs as much as the rest of it."""
        start, end = self._used, self._used + size
        if end > len(self._gathered):
            self._gathered = self._random(_RANDOM_GATHERED)
            start, end = 0, size
        self._used = end
        return self._gathered[start:end]


_process = Ulids()
os.register_at_fork(after_in_child=_process.restart)


def new_id(prefix: str) -> str:
    """`new_id("req")` is `req_01J…`: unique across machines, sortable by time. Prefixes: `req`, `use`, `hold`, `org`, …"""
    return f"{prefix}_{_process.next()}"
