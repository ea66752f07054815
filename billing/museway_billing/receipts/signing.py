"""Signed receipts: Ed25519 over the canonical JSON (RFC 8785) of the receipt, verified offline with a published key set.

Keys and signatures are base64url without padding, as JWKs (RFC 8037) write them. `kid` is the RFC 7638 thumbprint of the
public key: it cannot be given to another key by mistake.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Literal

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct, ValidationError

from museway_billing.money import MTOK
from museway_billing.receipts.receipt import Receipt

PUBLIC_PREFIX = "public:"
"""Before a retired key of which only the public half was kept."""


class SignedReceipt(Struct, frozen=True, kw_only=True):
    """What `GET /v1/receipts/{id}` answers and `museway receipts verify` reads."""

    receipt: Receipt
    kid: str
    signature: str


class PublicKey(Struct, frozen=True, kw_only=True):
    """A JWK (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str


class KeySet(Struct, frozen=True, kw_only=True):
    """`/.well-known/museway-receipts.json`: every key that ever signed; the first one signs now."""

    keys: tuple[PublicKey, ...]


class ReceiptInvalid(Exception):
    """The document is not a receipt of ours, or is not as it was signed. The message says what is wrong with it."""


class Signer:
    """Signs with the first key; publishes all. Keys are 32 bytes in hex (`RECEIPT_KEYS`, newest first), and retired ones
    may be `public:` and the public key's 32 bytes. Raises ValueError for anything else."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or keys[0].startswith(PUBLIC_PREFIX):
            raise ValueError("the first receipt key has to be a private one")
        self._private = Ed25519PrivateKey.from_private_bytes(_key_bytes(keys[0]))
        self._keys = tuple(_jwk(_public_bytes(key)) for key in keys)

    @property
    def kid(self) -> str:
        """The key that signs now."""
        return self._keys[0].kid

    def sign(self, receipt: Receipt) -> SignedReceipt:
        signature = self._private.sign(canonical(receipt))
        return SignedReceipt(receipt=receipt, kid=self.kid, signature=_text(signature))

    def key_set(self) -> KeySet:
        return KeySet(keys=self._keys)


def canonical(receipt: Receipt) -> bytes:
    """The bytes that are signed. Raises rfc8785.IntegerDomainError for an amount beyond 2^53 - 1 (9 million USD)."""
    return rfc8785.dumps(msgspec.to_builtins(receipt))


def verify(document: bytes, key_set: bytes) -> Receipt:
    """The receipt in a signed document, if it is whole. Offline: needs the published key set, nothing else.

    Raises ReceiptInvalid: not JSON of this shape, a key that is not in the set, a signature that does not fit, or lines and
    total that do not add up.
    """
    try:
        raw = msgspec.json.decode(document, type=dict[str, msgspec.Raw])
        signed = msgspec.json.decode(document, type=SignedReceipt)
        keys = {key.kid: key for key in msgspec.json.decode(key_set, type=KeySet).keys}
        body = rfc8785.dumps(msgspec.json.decode(raw["receipt"]))
    except (ValidationError, msgspec.DecodeError, rfc8785.CanonicalizationError) as error:
        raise ReceiptInvalid(f"not a receipt: {error}") from error
    key = keys.get(signed.kid)
    if key is None:
        raise ReceiptInvalid(f"signed with an unknown key: {signed.kid}")
    try:
        Ed25519PublicKey.from_public_bytes(_bytes(key.x)).verify(_bytes(signed.signature), body)
    except (InvalidSignature, ValueError) as error:
        raise ReceiptInvalid("the signature does not fit: it was changed after it was signed") from error
    _check_sums(signed.receipt)
    return signed.receipt


def _check_sums(receipt: Receipt) -> None:
    for line in receipt.lines:
        if line.amount_nano_usd != line.tokens * line.price_nano_usd_per_mtok // MTOK:
            raise ReceiptInvalid(f"{line.rid} {line.token_class}: the amount is not tokens x price")
    if receipt.total_nano_usd != sum(line.amount_nano_usd for line in receipt.lines):
        raise ReceiptInvalid("the total is not the sum of the lines")


def _key_bytes(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != 32:
        raise ValueError("a receipt key has 32 bytes")
    return data


def _public_bytes(key: str) -> bytes:
    if key.startswith(PUBLIC_PREFIX):
        return _key_bytes(key.removeprefix(PUBLIC_PREFIX))
    return Ed25519PrivateKey.from_private_bytes(_key_bytes(key)).public_key().public_bytes_raw()


def _jwk(public: bytes) -> PublicKey:
    x = _text(public)
    thumbprint = hashlib.sha256(rfc8785.dumps({"crv": "Ed25519", "kty": "OKP", "x": x})).digest()
    return PublicKey(kid=_text(thumbprint), x=x)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
