"""Receipts: every charge explains itself, signed, verified offline."""

from museway_billing.receipts.receipt import Receipt, ReceiptLine, make_receipt
from museway_billing.receipts.signing import KeySet, PublicKey, ReceiptInvalid, SignedReceipt, Signer, verify

__all__ = [
    "KeySet",
    "PublicKey",
    "Receipt",
    "ReceiptInvalid",
    "ReceiptLine",
    "SignedReceipt",
    "Signer",
    "make_receipt",
    "verify",
]
