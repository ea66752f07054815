"""However a log is cut or its bits are flipped: what is read is a prefix of what was written, never an invention."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls import record
from museway_billing.journal.format import (
    FRAME_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    JournalDamaged,
    decode_record,
    encode_record,
    make_frame,
    read_frames,
    segment_header,
    segment_path,
)
from museway_billing.journal.tail import Tail
from museway_billing.usage import UsageRecord

RECORDS = [record(number, credit=number == 2) for number in range(1, 4)]
FIRST = 7
LOG = segment_header(FIRST) + b"".join(
    make_frame(number, encode_record(one)) for number, one in enumerate(RECORDS, start=FIRST)
)


def read(data: bytes) -> list[UsageRecord]:
    return [decode_record(payload) for _, _, payload in read_frames(data, SEGMENT_HEADER_BYTES, FIRST)]


def is_prefix(found: list[UsageRecord]) -> bool:
    return found == RECORDS[: len(found)]


def test_all_of_it_is_read_and_no_zero_after_it() -> None:
    assert read(LOG) == RECORDS
    assert read(LOG + bytes(4096)) == RECORDS


def test_cut_at_every_byte() -> None:
    ends = [SEGMENT_HEADER_BYTES]
    for _, end, _ in read_frames(LOG, SEGMENT_HEADER_BYTES, FIRST):
        ends.append(end)
    for cut in range(len(LOG) + 1):
        whole = sum(end <= cut for end in ends[1:])
        assert read(LOG[:cut]) == RECORDS[:whole]
        assert read(LOG[:cut] + bytes(64)) == RECORDS[:whole], "a preallocated file ends in zeros"


def test_every_single_bit_flipped() -> None:
    for place in range(SEGMENT_HEADER_BYTES, len(LOG)):
        for bit in range(8):
            damaged = bytearray(LOG)
            damaged[place] ^= 1 << bit
            found = read(bytes(damaged))
            assert len(found) < len(RECORDS)
            assert is_prefix(found)


@given(st.data())
def test_bytes_overwritten_anywhere(data: st.DataObject) -> None:
    damaged = bytearray(LOG)
    start = data.draw(st.integers(0, len(LOG) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=64))
    damaged[start : start + len(junk)] = junk
    assert is_prefix(read(bytes(damaged[: len(LOG)])))


def test_a_frame_is_valid_only_in_its_place() -> None:
    swapped = segment_header(FIRST) + make_frame(FIRST + 1, encode_record(RECORDS[0]))
    assert read(swapped) == []


@pytest.mark.parametrize("place", range(SEGMENT_HEADER_BYTES))
def test_a_damaged_header_costs_no_record(tmp_path: Path, place: int) -> None:
    damaged = bytearray(LOG)
    damaged[place] ^= 1
    segment_path(tmp_path, FIRST).write_bytes(damaged)
    assert list(Tail(tmp_path, id="j", epoch=1).read(10).records) == RECORDS


def test_another_version_is_refused_not_guessed_at(tmp_path: Path) -> None:
    head = LOG[:8] + (2).to_bytes(2, "little") + LOG[10:24]
    segment_path(tmp_path, FIRST).write_bytes(head + crc32(head).to_bytes(4, "little") + LOG[28:])
    with pytest.raises(JournalDamaged, match="version 2"):
        Tail(tmp_path, id="j", epoch=1).read(10)


def test_the_largest_record_fits_its_reservation() -> None:
    long = "x" * 140
    huge = (1 << 63) - 1
    one = record(1)
    fields = {name: getattr(one, name) for name in UsageRecord.__struct_fields__}
    fields |= {name: huge for name, value in fields.items() if isinstance(value, int)}
    fields |= {"model": long, "worker": long, "lines": one.lines * 2}
    assert len(make_frame(1, encode_record(UsageRecord(**fields)))) <= FRAME_BYTES_MAX
