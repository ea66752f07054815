"""The bytes of one finished answer on the disk: a header in clear, then the answer, compressed and encrypted.

In clear stand only hashes under our secret, the request's id and a time. The header is authenticated with the body, so an
answer can't be moved under another key. A header that does not check ends its file: nothing behind it is read.
"""

from __future__ import annotations

import os
import struct
import zlib
from enum import IntEnum
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec import Struct

from museway_platform.idempotency.names import HASH_BYTES, Name

_MAGIC: Final = b"MWi1"
_LAYOUT: Final = struct.Struct(f"<4sBxxxIQ{HASH_BYTES}s{HASH_BYTES}s30sxxI")
HEADER_BYTES: Final = _LAYOUT.size
_CHECKED: Final = HEADER_BYTES - 4
_NONCE_BYTES: Final = 12
_FAST: Final = 1
"""zlib's level: a stream repeats its envelope with every chunk, so even the fastest makes a tenth of it."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[bytes]).decode


class Kind(IntEnum):
    ANSWER = 1
    NOT_KEPT = 2
    """It was answered and billed, and the answer is gone: its key may never run again."""
    FREE = 3
    """What stood under the key does not count any more."""


class Header(Struct, frozen=True):
    """`size` is the body's, in bytes; `written` is seconds since the epoch."""

    kind: Kind
    size: int
    written: int
    hash: bytes
    fingerprint: bytes
    request_id: str

    def encode(self) -> bytes:
        packed = _LAYOUT.pack(
            _MAGIC, self.kind, self.size, self.written, self.hash, self.fingerprint, self.request_id.encode(), 0
        )
        return packed[:_CHECKED] + zlib.crc32(packed[:_CHECKED]).to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """None where these bytes are no header."""
        if len(data) < HEADER_BYTES or zlib.crc32(data[:_CHECKED]) != int.from_bytes(
            data[_CHECKED:HEADER_BYTES], "little"
        ):
            return None
        magic, kind, size, written, name, fingerprint, request_id, _ = _LAYOUT.unpack(data[:HEADER_BYTES])
        if magic != _MAGIC:
            return None
        return cls(Kind(kind), size, written, name, fingerprint, request_id.rstrip(b"\0").decode())


def seal(name: Name, request_id: str, entries: list[bytes], written: int) -> bytes:
    """A whole frame."""
    nonce = os.urandom(_NONCE_BYTES)
    packed = zlib.compress(_encode(entries), _FAST)
    size = _NONCE_BYTES + len(packed) + 16
    header = Header(Kind.ANSWER, size, written, name.hash, name.fingerprint, request_id).encode()
    return header + nonce + name.cipher().encrypt(nonce, packed, header)


def unseal(name: Name, frame: bytes) -> list[bytes] | None:
    """The entries of a frame; None where it is damaged, or not of this name."""
    header, nonce, sealed = (
        frame[:HEADER_BYTES],
        frame[HEADER_BYTES:][:_NONCE_BYTES],
        frame[HEADER_BYTES + _NONCE_BYTES :],
    )
    try:
        return _decode(zlib.decompress(name.cipher().decrypt(nonce, sealed, header)))
    except (InvalidTag, zlib.error, msgspec.DecodeError, ValueError):
        return None


def mark(kind: Kind, name: bytes, fingerprint: bytes, request_id: str, written: int) -> bytes:
    """A frame without an answer."""
    return Header(kind, 0, written, name, fingerprint, request_id).encode()
