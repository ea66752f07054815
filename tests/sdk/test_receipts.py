"""A receipt that our billing signed, proved by the SDK alone; and every change of it noticed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import rfc8785

from doubles.scripted_server import Scripted, ScriptedServer, answer, refusal
from museway import InvalidReceiptError, Museway, NotFoundError, ReceiptPendingError, types, verify_receipt
from museway.receipts import canonical
from museway_billing.receipts import Signer
from museway_billing.receipts.receipt import Receipt, ReceiptLine
from museway_billing.receipts.signing import canonical as billings_canonical

SIGNER = Signer(["11" * 32, "22" * 32])
LINE = ReceiptLine(
    rid="req_1.a000000000",
    phase="answer",
    agent=0,
    token_class="output",
    tokens=1001,
    price_nano_usd_per_mtok=1_999_999,
    amount_nano_usd=2001,
)
RECEIPT = Receipt(
    request_id="req_1",
    organization="org_1",
    project="prj_1",
    key="key_é\u2028\U0001f600",
    mode="instant",
    created="2026-11-24T00:00:00.000001Z",
    lines=(LINE,),
    price_version=3,
    total_nano_usd=2001,
)
SIGNED: dict[str, Any] = msgspec.to_builtins(SIGNER.sign(RECEIPT))
KEY_SET: dict[str, Any] = msgspec.to_builtins(SIGNER.key_set())
KEYS = msgspec.convert(KEY_SET, types.ReceiptKeys)
PENDING = answer({"request_id": "req_1", "status": "pending"}, {"retry-after": "0"}, status=202)


def changed(path: str, value: object) -> bytes:
    document = msgspec.json.decode(msgspec.json.encode(SIGNED))
    *steps, last = path.split(".")
    place = document
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value
    return msgspec.json.encode(document)


def test_it_is_true() -> None:
    assert verify_receipt(msgspec.json.encode(SIGNED), KEYS).receipt.total_nano_usd == 2001


def test_both_sides_sign_the_same_bytes() -> None:
    assert canonical(msgspec.json.decode(msgspec.json.encode(RECEIPT))) == billings_canonical(RECEIPT)


def test_keys_are_ordered_by_utf_16() -> None:
    """Where code points say otherwise."""
    odd = {"\uffff": 1, "\U00010000": [None, True, {"b": '\x07"\\\u2028', "a": -1}]}
    assert canonical(odd) == rfc8785.dumps(odd)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("receipt.total_nano_usd", 2000),
        ("receipt.key", "key_2"),
        ("receipt.lines.0.tokens", 1000),
        ("receipt.lines.0.class", "input"),
        ("receipt.added", 1),
        ("receipt.v", 1.0),
        ("signature", "AAAA"),
        ("signature", "not base64!"),
        ("kid", "another"),
        ("kid", KEY_SET["keys"][1]["kid"]),
        ("receipt", None),
    ],
)
def test_every_change_is_noticed(path: str, value: object) -> None:
    with pytest.raises(InvalidReceiptError):
        verify_receipt(changed(path, value), KEYS)


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"{}"])
def test_what_is_no_receipt(raw: bytes) -> None:
    with pytest.raises(InvalidReceiptError):
        verify_receipt(raw, KEYS)


def test_a_signed_lie_does_not_add_up() -> None:
    lie = msgspec.structs.replace(RECEIPT, total_nano_usd=5)
    with pytest.raises(InvalidReceiptError, match="total"):
        verify_receipt(msgspec.json.encode(SIGNER.sign(lie)), KEYS)
    line = msgspec.structs.replace(LINE, amount_nano_usd=2002)
    lie = msgspec.structs.replace(RECEIPT, lines=(line,), total_nano_usd=2002)
    with pytest.raises(InvalidReceiptError, match="line"):
        verify_receipt(msgspec.json.encode(SIGNER.sign(lie)), KEYS)


def test_fetched_waited_for_and_proved(server: ScriptedServer, client: Museway) -> None:
    server.script(PENDING, PENDING, answer(SIGNED), answer(KEY_SET), answer(SIGNED))
    receipt = client.receipt("req_1")
    receipt.verify()
    assert receipt.total_nano_usd == 2001
    client.receipt("req_1").verify()
    assert [heard.path for heard in server.heard].count("/.well-known/museway-receipts.json") == 1


@pytest.mark.parametrize(
    ("scripted", "kind"),
    [
        ((answer({"request_id": "r", "status": "pending"}, {"retry-after": "3"}, status=202),), ReceiptPendingError),
        ((refusal(404, "not_found", "invalid_request_error"),), NotFoundError),
    ],
)
def test_not_to_be_had(
    scripted: tuple[Scripted, ...], kind: type[Exception], server: ScriptedServer, client: Museway
) -> None:
    server.script(*scripted)
    with pytest.raises(kind):
        client.receipt("req_1", wait_s=2)
