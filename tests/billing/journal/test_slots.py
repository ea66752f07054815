"""A slot read after a crash says what was last written to it, or what was written just before, and nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import WORKER, identity
from museway_billing.journal.slots import (
    HEADER_BYTES,
    SLOT_BYTES,
    SlotFile,
    SlotImage,
    SlotState,
    encode_identity,
    header_is_whole,
    read_slots,
)

COUNTS = st.integers(-1, (1 << 62))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def only(path: Path) -> SlotImage:
    (image,) = read_slots(path)
    return image


def test_what_is_written_is_read(path: Path) -> None:
    file = SlotFile(path, 4)
    file.begin(2, encode_identity(identity(1)))
    opened = only(path)
    assert (opened.index, opened.identity, opened.state) == (2, identity(1), SlotState.OPEN)
    assert (opened.worker, opened.prompt, opened.cached, opened.reasoning, opened.output) == (None, -1, -1, 0, 0)
    file.name_worker(2, WORKER)
    file.write(2, SlotState.DISPATCHED, 120, 20, 7, 3)
    sent = only(path)
    assert (sent.state, sent.worker) == (SlotState.DISPATCHED, WORKER)
    assert (sent.prompt, sent.cached, sent.reasoning, sent.output) == (120, 20, 7, 3)
    file.write(2, SlotState.FREE, 0, 0, 0, 0)
    assert list(read_slots(path)) == []


def test_a_slot_used_again_remembers_nothing(path: Path) -> None:
    file = SlotFile(path, 1)
    file.begin(0, encode_identity(identity(1)))
    file.name_worker(0, WORKER)
    file.write(0, SlotState.DISPATCHED, 1, 1, 1, 1)
    file.write(0, SlotState.FREE, 0, 0, 0, 0)
    file.begin(0, encode_identity(identity(2)))
    image = only(path)
    assert image.identity == identity(2)
    assert (image.state, image.worker, image.output) == (SlotState.OPEN, None, 0)


def test_a_worker_with_a_long_name_is_cut_not_lost(path: Path) -> None:
    file = SlotFile(path, 1)
    file.begin(0, encode_identity(identity(1)))
    file.name_worker(0, "http://" + "w" * 300)
    assert (only(path).worker or "").startswith("http://www")


def test_any_damage_gives_the_last_state_or_the_one_before_or_says_so(path: Path) -> None:
    file = SlotFile(path, 1)
    file.begin(0, encode_identity(identity(1)))
    file.name_worker(0, WORKER)
    file.write(0, SlotState.DISPATCHED, 120, 20, 0, 1)
    before = only(path)
    file.write(0, SlotState.DISPATCHED, 120, 20, 0, 2)
    now = only(path)
    whole = path.read_bytes()
    for place in range(HEADER_BYTES, HEADER_BYTES + SLOT_BYTES):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        image = only(path)
        counts = (image.state, image.prompt, image.cached, image.reasoning, image.output)
        assert counts in [(i.state, i.prompt, i.cached, i.reasoning, i.output) for i in (before, now)]
        assert image.identity in (identity(1), None)
        assert image.worker in (WORKER, None)


@given(steps=st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=6), cut=st.integers(0, 60))
def test_a_write_that_was_cut_short_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int, int]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("slots") / "slots"
    file = SlotFile(path, 1)
    file.begin(0, encode_identity(identity(1)))
    before = b""
    for step in steps:
        before = path.read_bytes()
        file.write(0, SlotState.DISPATCHED, *step)
    after = path.read_bytes()
    changed = [place for place in range(len(after)) if after[place] != before[place]]
    torn = bytearray(before)
    for place in changed[:cut]:
        torn[place] = after[place]
    path.write_bytes(torn)
    image = only(path)
    found = (image.prompt, image.cached, image.reasoning, image.output)
    assert found in [(-1, -1, 0, 0), *steps][-2:]


def test_the_file_is_allocated_in_full(path: Path) -> None:
    SlotFile(path, 64)
    assert path.stat().st_blocks * 512 >= 64 * SLOT_BYTES


def test_no_room_is_an_error_at_the_start(path: Path) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011  the number is checked
        SlotFile(path, 1 << 42)
    assert refused.value.errno in (errno.ENOSPC, errno.EFBIG)


@pytest.mark.parametrize("size", [0, 14, HEADER_BYTES, HEADER_BYTES + SLOT_BYTES])
def test_a_file_that_is_not_ours_has_no_call_in_it(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)
    assert not header_is_whole(path)
    assert all(image.identity is None for image in read_slots(path))
