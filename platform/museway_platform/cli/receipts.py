"""`museway receipts verify`: prove a receipt without asking anyone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from museway_billing.receipts import ReceiptInvalid, Signer, verify
from museway_platform.cli.money import dollars
from museway_platform.cli.prompt import FAILED, MISUSED, Failure, Parser, answer
from museway_platform.cli.show import show, write_line
from museway_platform.settings import Settings, SettingsError

_ABOUT = """\
Verify the signature of a receipt (GET /v1/receipts/{id}) and compute its lines and total again. Offline: with --keys the
key set that was once saved from /.well-known/museway-receipts.json, else with this installation's own keys. Exit status 1
where the receipt is not as it was signed.
"""


class Verified(Struct, frozen=True, kw_only=True):
    """A receipt that is whole."""

    request_id: str
    organization: str
    mode: str
    created: str
    total_nano_usd: int
    kid: str


def main(argv: Sequence[str]) -> int:
    parser = Parser("receipts", "Signed receipts.")
    command = parser.actions().add("verify", _verify, _ABOUT)
    command.add_argument("file", type=Path, help="the receipt as JSON; - is standard input")
    command.add_argument("--keys", type=Path, metavar="FILE", help="a saved key set")
    return answer(parser, argv, lambda args: args.run(args))


def _verify(args: argparse.Namespace) -> int:
    document = sys.stdin.buffer.read() if str(args.file) == "-" else _read(args.file)
    keys = _own_keys() if args.keys is None else _read(args.keys)
    try:
        receipt = verify(document, keys)
    except ReceiptInvalid as error:
        raise Failure(f"not a valid receipt: {error}", FAILED) from error
    result = Verified(
        request_id=receipt.request_id,
        organization=receipt.organization,
        mode=receipt.mode,
        created=str(receipt.created),
        total_nano_usd=receipt.total_nano_usd,
        kid=msgspec.json.decode(document, type=_Signed).kid,
    )
    if args.json:
        show(result, as_json=True)
        return 0
    for line in receipt.lines:
        write_line(
            f"  {line.rid}  {line.phase:<12} agent {line.agent:<2} {line.token_class:<12} {line.tokens:>9,}"
            f"  {dollars(line.amount_nano_usd)}"
        )
    write_line(f"{receipt.request_id}: {dollars(receipt.total_nano_usd)}, signed with {result.kid}: valid")
    return 0


class _Signed(Struct):
    kid: str


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", MISUSED) from error


def _own_keys() -> bytes:
    """The key set that this installation publishes; its secrets must be at hand. Never makes any."""
    settings = Settings.load()
    if not settings.receipt_keys and not settings.data_dir.exists():
        raise Failure("no keys: give --keys with a saved /.well-known/museway-receipts.json", MISUSED)
    try:
        keys = settings.with_secrets().receipt_keys
    except SettingsError as error:
        raise Failure("no keys: give --keys, or set MUSEWAY_RECEIPT_KEYS", MISUSED) from error
    return msgspec.json.encode(Signer([key.reveal() for key in keys]).key_set())
