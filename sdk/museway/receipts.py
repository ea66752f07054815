"""A receipt, and proving it without the server: Ed25519 over the RFC 8785 canonical JSON, and its own arithmetic."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from museway import _operations, types
from museway._exchange import Attempt, Got, Step, Wait, exchange, read
from museway.errors import ConfigurationError, InvalidReceiptError, ReceiptPendingError, hints

MTOK: Final = 1_000_000


class Receipt(Struct, frozen=True):
    """The signed receipt of one request. `raw` is the JSON as it came, `keys` those that the server publishes."""

    raw: bytes
    signed: types.SignedReceipt
    keys: types.ReceiptKeys

    @property
    def total_nano_usd(self) -> int:
        return self.signed.receipt.total_nano_usd

    def verify(self, keys: types.ReceiptKeys | None = None) -> None:
        """Prove it with `keys` (one that you kept), or with those that came along. Asks no server.

        Raises InvalidReceiptError where the key is unknown, the signature is wrong or the sums are; ConfigurationError
        without the extra `museway[verify]`.
        """
        verify_receipt(self.raw, keys or self.keys)


def verify_receipt(raw: bytes, keys: types.ReceiptKeys) -> types.SignedReceipt:
    """As `Receipt.verify`, for a receipt that was kept as JSON."""
    try:
        signed = msgspec.json.decode(raw, type=types.SignedReceipt)
        body = msgspec.json.decode(raw, type=dict[str, Any])["receipt"]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidReceiptError(f"This is not a receipt: {error}") from error
    key = next((key for key in keys.keys if key.kid == signed.kid), None)
    if key is None:
        raise InvalidReceiptError(f"The receipt is signed with {signed.kid!r}, which is none of the keys.")
    _verify_signature(key.x, signed.signature, canonical(body))
    _verify_sums(signed.receipt)
    return signed


def _verify_signature(public: str, signature: str, message: bytes) -> None:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise ConfigurationError("To verify receipts: pip install 'museway[verify]'") from error
    try:
        Ed25519PublicKey.from_public_bytes(_base64url(public)).verify(_base64url(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise InvalidReceiptError("The receipt's signature is wrong.") from error


def _verify_sums(receipt: types.ReceiptBody) -> None:
    for line in receipt.lines:
        if line.tokens * line.price_nano_usd_per_mtok // MTOK != line.amount_nano_usd:
            raise InvalidReceiptError(f"A line of the receipt does not add up: {line.rid} {line.class_}.")
    if sum(line.amount_nano_usd for line in receipt.lines) != receipt.total_nano_usd:
        raise InvalidReceiptError("The receipt's total is not the sum of its lines.")


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def canonical(value: object) -> bytes:
    """RFC 8785 of values without floats (a receipt has none). Raises InvalidReceiptError for others."""
    return json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":")).encode()


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value)
        return {key: _ordered(pairs[key]) for key in sorted(pairs, key=lambda key: key.encode("utf-16-be"))}
    if isinstance(value, list):
        return [_ordered(item) for item in cast("list[object]", value)]
    if isinstance(value, float):
        raise InvalidReceiptError("A receipt has no fractions.")
    return value


def fetch_receipt(
    request_id: str, attempt: Attempt, keys: types.ReceiptKeys | None, *, wait_s: float
) -> Generator[Step, Got, Receipt]:
    """The receipt, waited for up to `wait_s` while its records are on their way; ReceiptPendingError after that."""
    call = _operations.get_receipt(request_id)
    waited = 0.0
    while True:
        answered = yield from exchange(call, attempt)
        answer = read(call, answered)
        if isinstance(answer, types.SignedReceipt):
            break
        pause = hints(answered.head.headers).retry_after or 1.0
        waited += pause
        if waited > wait_s:
            raise ReceiptPendingError("The receipt's records are still on their way.", request_id=request_id)
        yield Wait(pause)
    if keys is None:
        keys_call = _operations.get_receipt_keys()
        keys = read(keys_call, (yield from exchange(keys_call, attempt)))
    return Receipt(answered.body, answer, keys)
