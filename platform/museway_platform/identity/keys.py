"""Secret keys: `mw_live_` or `mw_test_`, 160 random bits in base62 (27 characters), 6 characters of checksum.

The checksum (CRC-32 of all before it, base62) proves nothing about who made a key: it lets us, an editor or a secret
scanner tell a key from junk without asking a store. The store keeps SHA-256 only: 160 random bits need no salt and no
slow hash. A key is found by that digest, never compared with a stored secret, so that timing tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from typing import Literal

Kind = Literal["live", "test"]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = frozenset(_ALPHABET)
_PREFIXES = ("mw_live_", "mw_test_")
_PREFIX_LENGTH = 8
_BODY_LENGTH = 27
_CHECKSUM_LENGTH = 6
LENGTH = _PREFIX_LENGTH + _BODY_LENGTH + _CHECKSUM_LENGTH


def mint(kind: Kind) -> str:
    """A new secret. It is shown once and never stored."""
    body = f"mw_{kind}_{_base62(secrets.randbits(160), _BODY_LENGTH)}"
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether `secret` could be one of ours: prefix, length, alphabet, checksum. It may still be unknown or revoked."""
    if len(secret) != LENGTH or secret[:_PREFIX_LENGTH] not in _PREFIXES:
        return False
    body, checksum = secret[:-_CHECKSUM_LENGTH], secret[-_CHECKSUM_LENGTH:]
    if not _DIGITS.issuperset(secret[_PREFIX_LENGTH:]):
        return False
    return hmac.compare_digest(checksum, _checksum(body))


def digest(secret: str) -> bytes:
    """SHA-256, what the store knows a secret by (32 bytes). Any text has one, a malformed secret too."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def hint(secret: str) -> str:
    """What may be shown of a secret later: its prefix and last four characters."""
    return f"{secret[:_PREFIX_LENGTH]}…{secret[-4:]}"


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(value: int, length: int) -> str:
    """`value` in `length` digits, most significant first, padded with zeros."""
    digits: list[str] = []
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits.append(_ALPHABET[digit])
    assert value == 0, "the value has more digits"
    return "".join(reversed(digits))
