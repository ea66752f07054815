"""The journal's bytes on disk, version 1. Little-endian; every part carries a CRC-32; nothing is ever rewritten in place
but slots.

A process's journal is one folder:

    lock                      flocked while its process lives
    epoch                     text: journal id, epoch, format version, CRC; replaced atomically when it is claimed
    slots                     header page (4096 bytes), then one 1 KiB slot per open call (`slots.py`)
    log-<first sequence>      segments of records, preallocated with zeros

Segment: header of 32 bytes `magic, version, first sequence, CRC`, then frames `[length u32][crc u32][payload]` one after
the other until a length of 0. A frame's CRC covers its sequence number, its length and its payload, so that a frame is
valid only in the place it was written for. The payload is one UsageRecord as a msgpack map: new fields have defaults.

Reading stops at the first frame that is not whole: what is returned is always a prefix of what was written.

The epoch file says the version of the whole folder. A later version changes `FORMAT_VERSION` and still reads the one before
it (`READABLE`); a folder of a version that is not readable here is left as it is, whoever's it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout
from zlib import crc32

from msgspec.msgpack import Decoder, Encoder

from museway_billing.usage import UsageRecord

FORMAT_VERSION = 1
READABLE = frozenset({1})
FRAME_BYTES_MAX = 2048
"""No frame is larger: what a slot reserves for its end record."""

SEGMENT_PREFIX = "log-"
SEGMENT_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 8

_SEGMENT_MAGIC = b"MUSELOG\x00"
_SEGMENT_HEADER = Layout("<8sHxxxxxxQ")
_FRAME_HEADER = Layout("<II")
_CRC = Layout("<I")
_PLACE = Layout("<QI")

_encode = Encoder().encode
_decode = Decoder(UsageRecord).decode


class JournalDamaged(Exception):
    """Bytes that cannot be what we wrote. `path` is kept for inspection."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


class OtherVersion(JournalDamaged):
    """Whole, and written by a program of another format: only that one, or a later one, may touch it."""

    def __init__(self, path: Path, version: str) -> None:
        super().__init__(path, f"is of format version {version}, which this program does not read; left untouched")


def segment_path(home: Path, first_sequence: int) -> Path:
    return home / f"{SEGMENT_PREFIX}{first_sequence:020}"


def segment_paths(home: Path) -> list[tuple[int, Path]]:
    """The segments of a folder as (first sequence, path), oldest first."""
    found = [(path.name.removeprefix(SEGMENT_PREFIX), path) for path in home.glob(f"{SEGMENT_PREFIX}*")]
    return sorted((int(number), path) for number, path in found if number.isdecimal())


def segment_header(first_sequence: int) -> bytes:
    head = _SEGMENT_HEADER.pack(_SEGMENT_MAGIC, FORMAT_VERSION, first_sequence)
    return (head + _CRC.pack(crc32(head))).ljust(SEGMENT_HEADER_BYTES, b"\x00")


def refuse_other_version(path: Path, header: bytes) -> None:
    """Raises OtherVersion for a whole header of a format version that is not readable here.

    A header that is not whole is no reason to stop: the file's name has its first sequence, and every frame proves itself.
    """
    head = header[: _SEGMENT_HEADER.size]
    if header[len(head) : len(head) + _CRC.size] == _CRC.pack(crc32(head)) and head[:8] == _SEGMENT_MAGIC:
        version: int = _SEGMENT_HEADER.unpack(head)[1]
        if version not in READABLE:
            raise OtherVersion(path, str(version))


def encode_record(record: UsageRecord) -> bytes:
    """The payload of a record's frame. Asserts that it fits the room that was reserved for it."""
    payload = _encode(record)
    assert len(payload) + FRAME_HEADER_BYTES <= FRAME_BYTES_MAX, len(payload)
    return payload


def decode_record(payload: bytes | memoryview) -> UsageRecord:
    """Raises msgspec.ValidationError for a payload of another schema."""
    return _decode(payload)


def make_frame(sequence: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME_HEADER.pack(length, crc32(payload, crc32(_PLACE.pack(sequence, length)))) + payload


def read_frame(data: bytes | memoryview, offset: int, sequence: int) -> memoryview | None:
    """The payload of the frame at `offset` if all of it is there and it was written as number `sequence`."""
    view = memoryview(data)
    if offset + FRAME_HEADER_BYTES > len(view):
        return None
    length, crc = _FRAME_HEADER.unpack_from(view, offset)
    start = offset + FRAME_HEADER_BYTES
    if length == 0 or length > FRAME_BYTES_MAX - FRAME_HEADER_BYTES or start + length > len(view):
        return None
    payload = view[start : start + length]
    return payload if crc32(payload, crc32(_PLACE.pack(sequence, length))) == crc else None


def read_frames(data: bytes | memoryview, offset: int, sequence: int) -> Iterator[tuple[int, int, memoryview]]:
    """(sequence, offset after the frame, payload) from `offset` on, until the first frame that is not whole."""
    while (payload := read_frame(data, offset, sequence)) is not None:
        offset += FRAME_HEADER_BYTES + len(payload)
        yield sequence, offset, payload
        sequence += 1
