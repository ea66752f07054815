"""A receipt explains a request's whole charge, and nobody can change it unseen."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import msgspec
import pytest

from calls import finished, identity
from museway_billing.journal.store import insert_usage
from museway_billing.receipts import ReceiptInvalid, SignedReceipt, Signer, make_receipt, verify
from museway_billing.receipts.store import receipt_of
from museway_billing.usage import UsageRecord
from museway_platform.database.pool import Pool

NEW, OLD = "11" * 32, "22" * 32
SIGNER = Signer([NEW, OLD])
KEYS = msgspec.json.encode(SIGNER.key_set())


def records() -> list[UsageRecord]:
    return [
        finished(identity(1, request=1), (120, 20, 300, 0)),
        finished(identity(2, request=1, priced_prompt=0), (430, 0, 0, 80)),
        finished(identity(3, request=1), credit=True),
    ]


def document(signer: Signer = SIGNER) -> bytes:
    return msgspec.json.encode(signer.sign(make_receipt(records(), supersedes=None)))


def test_the_body_is_version_1() -> None:
    body = msgspec.to_builtins(make_receipt(records(), supersedes=None))
    assert list(body) == [
        "v",
        "request_id",
        "organization",
        "project",
        "key",
        "mode",
        "created",
        "lines",
        "price_version",
        "total_nano_usd",
        "supersedes",
    ]
    assert list(body["lines"][0]) == [
        "rid",
        "phase",
        "agent",
        "class",
        "tokens",
        "price_nano_usd_per_mtok",
        "amount_nano_usd",
    ]


def test_the_total_is_what_the_records_cost_after_credits() -> None:
    receipt = make_receipt(records(), supersedes=None)
    assert receipt.total_nano_usd == sum(r.amount_nano_usd - r.credited_nano_usd for r in records())
    assert [line.token_class for line in receipt.lines] == ["input", "cached_input", "reasoning", "output"]
    assert make_receipt(records()[::-1], supersedes=None) == receipt


def test_a_receipt_verifies_offline_however_its_json_is_laid_out() -> None:
    assert verify(document(), KEYS) == make_receipt(records(), supersedes=None)
    loose = json.dumps(json.loads(document()), indent=3, sort_keys=True).encode()
    assert verify(loose, KEYS).total_nano_usd > 0


def test_a_retired_key_still_verifies_even_if_only_its_public_half_was_kept() -> None:
    old = Signer([OLD])
    (published,) = [key for key in SIGNER.key_set().keys if key.kid == old.kid]
    public = urlsafe_b64decode(published.x + "=").hex()
    for later in (SIGNER, Signer([NEW, f"public:{public}"])):
        assert verify(document(old), msgspec.json.encode(later.key_set()))
    with pytest.raises(ReceiptInvalid, match="unknown key"):
        verify(document(old), msgspec.json.encode(Signer([NEW]).key_set()))


def changed(field: str, value: object) -> bytes:
    """The document with one field (dotted) set to something else; None takes it away."""
    whole: dict[str, Any] = json.loads(document())
    *parents, name = field.split(".")
    part: dict[str, Any] = whole
    for parent in parents:
        part = part[parent]
    if value is None:
        del part[name]
    else:
        part[name] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("receipt.total_nano_usd", 1, "signature"),
        ("receipt.lines", [], "signature"),
        ("receipt.note", "paid", "signature"),
        ("receipt.organization", "org_b", "signature"),
        ("signature", "A" * 86, "signature"),
        ("signature", "!", "signature"),
        ("kid", "other", "unknown key"),
        ("kid", None, "not a receipt"),
        ("receipt.v", 2, "not a receipt"),
        ("receipt.total_nano_usd", 1 << 60, "not a receipt"),
    ],
)
def test_what_was_changed_does_not_verify(field: str, value: object, why: str) -> None:
    with pytest.raises(ReceiptInvalid, match=why):
        verify(changed(field, value), KEYS)


def test_what_does_not_add_up_does_not_verify_even_if_it_is_signed() -> None:
    receipt = msgspec.structs.replace(make_receipt(records(), supersedes=None), total_nano_usd=1)
    with pytest.raises(ReceiptInvalid, match="sum of the lines"):
        verify(msgspec.json.encode(SIGNER.sign(receipt)), KEYS)


@pytest.mark.parametrize("keys", [[], ["public:" + "11" * 32], ["11"], ["not hex"]])
def test_keys_that_cannot_sign_are_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Signer(keys)


@pytest.mark.anyio
async def test_the_same_receipt_until_there_is_more_to_say(pool: Pool) -> None:
    first, second, third = records()

    async def asked() -> SignedReceipt | None:
        async with pool.acquire() as connection:
            return await receipt_of(connection, first.request_id, organization="org_a", signer=SIGNER)

    async with pool.acquire() as connection:
        assert await asked() is None
        await insert_usage(connection, [first])
        one = await asked()
        assert one is not None
        assert one.receipt.supersedes is None
        assert await asked() == one
        await insert_usage(connection, [second, third])
        two = await asked()
        assert two is not None
        assert two.receipt.supersedes == one.signature
        assert two.receipt == make_receipt(records(), supersedes=one.signature)
        assert await asked() == two
        assert verify(msgspec.json.encode(two), KEYS) == two.receipt
        other = await receipt_of(connection, first.request_id, organization="org_b", signer=SIGNER)
        assert other is None, "another organization's receipt does not exist"
