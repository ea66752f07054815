"""What is kept of an Idempotency-Key: a hash under our secret, never the key; and what its answers are encrypted with.

Everything is derived from one secret for one scope (project and route), so that equal keys of two projects have nothing in
common. With several secrets (rotation, newest first) a key has one name under each: what is written is written under the
newest, what is looked up is looked up under all.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

KEY_LENGTH_MAX: Final = 255
HASH_BYTES: Final = 16
"""128 bits: two keys of a scope share a name by chance once in 2^64 keys."""

_canonical: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class InvalidKey(Exception):
    """Not 1 to 255 visible ASCII characters."""


class Name(Struct, frozen=True):
    """One key under one secret. `fingerprint` is the name of the request's body. Both are HASH_BYTES long.

    `_secret` and `_context` make the cipher, which is not needed where a request simply runs.
    """

    hash: bytes
    fingerprint: bytes
    _secret: bytes
    _context: bytes

    def __repr__(self) -> str:
        """Without the secret and the key."""
        return f"Name({self.hash.hex()})"

    def cipher(self) -> AESGCM:
        """Made of our secret and the raw key: neither alone opens what it closes."""
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"museway replay\0" + self._context)
        return AESGCM(derive.derive(self._secret))


class Namer:
    """Names keys under every secret of this installation, newest first. At least one."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        assert secrets
        self._secrets = [hmac.digest(secret, b"museway idempotency", "sha256") for secret in secrets]

    def names(self, *, project: str, route: str, key: bytes, body: object) -> list[Name]:
        """`body` is the decoded request without its id: equal requests, equal fingerprints, however they were spelled.

        Raises InvalidKey.
        """
        if not 0 < len(key) <= KEY_LENGTH_MAX or any(not 0x21 <= byte <= 0x7E for byte in key):
            raise InvalidKey
        context = b"\0".join([project.encode(), route.encode(), key])
        said = _canonical(body)
        return [
            Name(_hash(secret, b"key\0" + context), _hash(secret, b"body\0" + said), secret, context)
            for secret in self._secrets
        ]


def _hash(secret: bytes, what: bytes) -> bytes:
    return hmac.digest(secret, what, "sha256")[:HASH_BYTES]
