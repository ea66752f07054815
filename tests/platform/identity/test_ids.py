"""Ids: unique, sortable, in the documented form."""

from __future__ import annotations

import os
import re
from itertools import pairwise

from museway_platform.identity.ids import Ulids, new_id

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def test_form() -> None:
    prefix, _, ulid = new_id("req").partition("_")
    assert prefix == "req"
    assert ULID.fullmatch(ulid)


def test_time_is_the_first_48_bits() -> None:
    # The example of the ULID specification.
    assert Ulids(clock_ns=lambda: 1_469_918_176_385 * 1_000_000).next()[:10] == "01ARYZ6S41"


def test_ids_of_one_millisecond_sort_in_the_order_they_were_made() -> None:
    source = Ulids(clock_ns=lambda: 10**18)
    made = [source.next() for _ in range(10_000)]
    assert all(one < other for one, other in pairwise(made))


def test_a_clock_set_back_does_not_take_ids_back() -> None:
    times = iter([2 * 10**18, 10**18, 10**18])
    source = Ulids(clock_ns=lambda: next(times))
    made = [source.next() for _ in range(3)]
    assert made == sorted(made)
    assert len(set(made)) == 3


def test_a_full_millisecond_moves_on_to_the_next() -> None:
    source = Ulids(clock_ns=lambda: 10**18, random=lambda size: b"\xff" * size)
    made = [source.next() for _ in range(3)]
    assert made == sorted(made)
    assert made[0][10:] == "Z" * 16
    assert made[1][:10] > made[0][:10]


def test_a_forked_child_makes_other_ids() -> None:
    new_id("req")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "".join(new_id("req") for _ in range(100)).encode())
        os._exit(0)
    ours = {new_id("req") for _ in range(100)}
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    theirs = {text[start : start + 30] for start in range(0, len(text), 30)}
    assert len(theirs) == 100
    assert ours.isdisjoint(theirs)
