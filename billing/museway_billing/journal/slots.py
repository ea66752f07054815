"""One mapped slot per open call: counters bumped in place, no system call. Survives kill -9, not a power loss.

Slot, 1 KiB (offsets):

    0    u32 length, u32 crc, u64 generation, then the CallIdentity as msgpack   (crc over generation and identity)
    592  u32 length, u32 crc, then the worker's URL                              (crc over generation and URL)
    752  unused
    768  half 0      896  half 1

A half is `generation, sequence, state, prompt, cached, reasoning, output, crc`. Updates alternate between the halves, so
that a process killed in the middle of a write leaves the other one whole; the valid half of the slot's generation with
the highest sequence counts. Every reuse of a slot has a new generation: a stale half or URL never matches.

The file is allocated in full: a sparse map would die of SIGBUS on a full disk.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from struct import Struct as Layout
from zlib import crc32

from msgspec import MsgspecError, Struct
from msgspec.msgpack import Decoder, Encoder

from museway_billing.journal.format import FORMAT_VERSION, READABLE
from museway_billing.usage import CallIdentity

SLOT_BYTES = 1024
HEADER_BYTES = 4096
IDENTITY_BYTES_MAX = 576
WORKER_BYTES_MAX = 152

_IDENTITY_AT = 0
_WORKER_AT = 592
_HALF_AT = (768, 896)
_MAGIC = b"MUSESLOT"
_HEADER = Layout("<8sHxxI")
_PART = Layout("<IIQ")
_TEXT = Layout("<II")
_GENERATION = Layout("<Q")
_HALF = Layout("<QQQqqqq")
_CRC = Layout("<I")

_encode = Encoder().encode
_decode = Decoder(CallIdentity).decode


def encode_identity(identity: CallIdentity) -> bytes:
    """What `SlotFile.begin` writes. Asserts that it fits: every part has a bound of ours, a model's name the operator's."""
    data = _encode(identity)
    assert len(data) <= IDENTITY_BYTES_MAX, f"{len(data)} bytes of identity: is the model's name that long?"
    return data


class SlotState(IntEnum):
    FREE = 0
    OPEN = 1
    DISPATCHED = 2
    RECORDED = 3
    """Its record is in the log; the slot waits for its hold to be settled."""


_STATES = frozenset(state.value for state in SlotState)


class SlotImage(Struct, frozen=True, kw_only=True):
    """What a slot says of its call. Counts: -1 is unknown. `identity` None: the slot is damaged."""

    index: int
    identity: CallIdentity | None
    state: SlotState
    worker: str | None
    prompt: int
    cached: int
    reasoning: int
    output: int


class SlotFile:
    """The mapping. Knows nothing of which slots are in use: `Journal` does."""

    def __init__(self, path: Path, count: int) -> None:
        """Allocate and map a new file of `count` slots. Raises OSError (ENOSPC) where the disk has no room."""
        size = HEADER_BYTES + count * SLOT_BYTES
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            os.pwrite(fd, _HEADER.pack(_MAGIC, FORMAT_VERSION, count), 0)
            os.fsync(fd)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self.count = count
        self._generations = [0] * count
        self._sequences = [0] * count

    def begin(self, index: int, data: bytes) -> None:
        """Write the identity (`encode_identity`), then open the slot: in that order, so that an open slot has one."""
        self._generations[index] = generation = self._generations[index] + 1
        at = HEADER_BYTES + index * SLOT_BYTES + _IDENTITY_AT
        crc = crc32(data, crc32(_GENERATION.pack(generation)))
        self._map[at : at + _PART.size + len(data)] = _PART.pack(len(data), crc, generation) + data
        self.write(index, SlotState.OPEN, -1, -1, 0, 0)

    def name_worker(self, index: int, worker: str) -> None:
        """Longer URLs than the slot has room for are cut: the name in a recovered record, nothing else, suffers."""
        data = worker.encode()[:WORKER_BYTES_MAX]
        at = HEADER_BYTES + index * SLOT_BYTES + _WORKER_AT
        crc = crc32(data, crc32(_GENERATION.pack(self._generations[index])))
        self._map[at : at + _TEXT.size + len(data)] = _TEXT.pack(len(data), crc) + data

    def write(self, index: int, state: int, prompt: int, cached: int, reasoning: int, output: int) -> None:
        sequence = self._sequences[index] = self._sequences[index] + 1
        half = _HALF.pack(self._generations[index], sequence, state, prompt, cached, reasoning, output)
        at = HEADER_BYTES + index * SLOT_BYTES + _HALF_AT[sequence & 1]
        self._map[at : at + 60] = half + _CRC.pack(crc32(half))

    def close(self) -> None:
        self._map.close()


def _damaged(index: int) -> SlotImage:
    return SlotImage(
        index=index,
        identity=None,
        state=SlotState.OPEN,
        worker=None,
        prompt=-1,
        cached=-1,
        reasoning=0,
        output=0,
    )


def read_slots(path: Path) -> Iterator[SlotImage]:
    """The slots of a dead process that are not free, the damaged ones too. A slot proves itself: the header is not needed
    to find it (`header_is_whole` tells whether it can be believed)."""
    data = path.read_bytes()
    for index in range(-(-max(len(data) - HEADER_BYTES, 0) // SLOT_BYTES)):
        at = HEADER_BYTES + index * SLOT_BYTES
        image = _read_slot(data[at : at + SLOT_BYTES], index)
        if image is not None:
            yield image


def read_slot(path: Path, index: int) -> SlotImage | None:
    """One slot; None: it is free."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES + index * SLOT_BYTES)
        return _read_slot(file.read(SLOT_BYTES), index)


def header_is_whole(path: Path) -> bool:
    """Whether the file is as long as its header says, and the header ours: else slots may be missing."""
    with path.open("rb") as file:
        magic, version, count = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\x00"))
        size = os.fstat(file.fileno()).st_size
    return magic == _MAGIC and version in READABLE and size == HEADER_BYTES + count * SLOT_BYTES


def _read_slot(slot: bytes, index: int) -> SlotImage | None:
    halves = [half for at in _HALF_AT if (half := _read_half(slot, at)) is not None]
    if not halves:
        return _damaged(index) if any(slot[_HALF_AT[0] :]) else None
    generation, _, state, prompt, cached, reasoning, output = max(halves)
    if state == SlotState.FREE:
        return None
    return SlotImage(
        index=index,
        identity=_read_identity(slot, generation),
        state=SlotState(state),
        worker=_read_worker(slot, generation),
        prompt=prompt,
        cached=cached,
        reasoning=reasoning,
        output=output,
    )


def _read_half(slot: bytes, at: int) -> tuple[int, int, int, int, int, int, int] | None:
    body = slot[at : at + _HALF.size]
    crc = slot[at + _HALF.size : at + _HALF.size + _CRC.size]
    if len(crc) < _CRC.size or _CRC.unpack(crc)[0] != crc32(body):
        return None
    half: tuple[int, int, int, int, int, int, int] = _HALF.unpack(body)
    return half if half[2] in _STATES else None


def _read_identity(slot: bytes, generation: int) -> CallIdentity | None:
    length, crc, own_generation = _PART.unpack_from(slot, _IDENTITY_AT)
    data = slot[_IDENTITY_AT + _PART.size :][:length]
    if own_generation != generation or length > IDENTITY_BYTES_MAX:
        return None
    if crc32(data, crc32(_GENERATION.pack(generation))) != crc:
        return None
    try:
        return _decode(data)
    except MsgspecError:
        return None


def _read_worker(slot: bytes, generation: int) -> str | None:
    length, crc = _TEXT.unpack_from(slot, _WORKER_AT)
    data = slot[_WORKER_AT + _TEXT.size :][:length]
    if length > WORKER_BYTES_MAX or crc32(data, crc32(_GENERATION.pack(generation))) != crc:
        return None
    return data.decode(errors="replace")
