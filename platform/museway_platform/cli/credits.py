"""`museway credits`: money that an organization can spend. It comes in by one door, and gateways know within a second."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from museway_billing.ledger import store as ledger
from museway_billing.ledger.account import GrantKind
from museway_platform.cli.administration import Result, administer, organization
from museway_platform.cli.money import usd
from museway_platform.cli.prompt import Failure, Parser
from museway_platform.database.pool import Connection
from museway_platform.identity.ids import new_id


class Granted(Struct, frozen=True, kw_only=True):
    """`granted_now` is False where this very grant was there already."""

    id: str
    organization: str
    amount_nano_usd: int
    kind: GrantKind
    expires: datetime | None
    granted_now: bool


class Money(Struct, frozen=True, kw_only=True):
    """What the ledger has: up to a second behind the gateways (`GET /v1/balance` is true now)."""

    organization: str
    credit_nano_usd: int
    receivable_nano_usd: int
    posted_nano_usd: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("credits", "Prepaid and promotional credit.")
    actions = parser.actions()
    grant = actions.add("grant", _grant, "give credit")
    grant.add_argument("--org", required=True, help="id or name")
    grant.add_argument("--usd", required=True, type=usd, help="how much, such as 5 or 0.25")
    grant.add_argument("--paid", action="store_true", help="paid for; promotional credit is drawn first")
    grant.add_argument(
        "--expires", type=instant, metavar="DATE", help="2027-01-31 or 2027-01-31T12:00:00Z (default: never)"
    )
    grant.add_argument("--id", help="txn_… of your own: the same grant again is then harmless")
    show = actions.add("show", _show, "what is left, and what is owed")
    show.add_argument("--org", required=True, help="id or name")
    return administer(parser, argv)


def instant(text: str) -> datetime:
    """A date or time; UTC where it names no zone. For argparse."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2027-01-31 or 2027-01-31T12:00:00Z") from error
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


async def _grant(connection: Connection, args: argparse.Namespace) -> Result:
    if args.id is not None and not args.id.startswith("txn_"):
        raise Failure("--id begins with txn_", 2)
    owner = await organization(connection, args.org)
    txn_id, kind = args.id or new_id("txn"), GrantKind.PAID if args.paid else GrantKind.PROMOTIONAL
    now = await ledger.grant(connection, owner.id, args.usd, txn_id, kind, args.expires)
    return Granted(
        id=txn_id, organization=owner.id, amount_nano_usd=args.usd, kind=kind, expires=args.expires, granted_now=now
    )


async def _show(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    money = await ledger.balance(connection, owner.id)
    return Money(
        organization=owner.id,
        credit_nano_usd=money.credit,
        receivable_nano_usd=money.receivable,
        posted_nano_usd=money.posted,
    )
