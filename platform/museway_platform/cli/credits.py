"""`museway credits`: money that an organization can spend. It comes in by one door, and gateways know within a second."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from museway_billing.ledger import store as ledger
from museway_billing.ledger.account import GrantKind
from museway_billing.ledger.corrections import Adjustment
from museway_billing.ledger.corrections import store as corrections
from museway_billing.ledger.statement import store as statements
from museway_billing.prices import store as prices
from museway_billing.reports.store import record_by_id
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


class Adjusted(Struct, frozen=True, kw_only=True):
    """`adjusted_now` is False where this very adjustment was there already."""

    id: str
    organization: str
    amount_nano_usd: int
    subject: str | None
    reason: str
    adjusted_now: bool


class Grant(Struct, frozen=True, kw_only=True):
    """One grant and what is left of it; drawn in the order of the list."""

    id: str
    left_nano_usd: int
    granted_nano_usd: int
    priority: int
    expires: datetime | None
    created: datetime


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the history; `amount` is what it adds to the balance. Usage is one line a day."""

    posted: datetime
    kind: str
    amount_nano_usd: int
    source: str | None
    reason: str | None


class Unknown(Struct, frozen=True, kw_only=True):
    """A record whose count is not known, and what is reserved for it."""

    record: str
    organization: str
    reserved_nano_usd: int
    lapses: datetime


class Money(Struct, frozen=True, kw_only=True):
    """What the ledger has: up to a second behind the gateways (`GET /v1/balance` is true now)."""

    organization: str
    credit_nano_usd: int
    receivable_nano_usd: int
    reserved_nano_usd: int
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
    grant.add_argument(
        "--priority", type=int, metavar="N", help="lower is drawn first (default: promotional 0, paid 1)"
    )
    grant.add_argument("--id", help="txn_… of your own: the same grant again is then harmless")
    adjust = actions.add("adjust", _adjust, "correct a balance or what was charged, by a new entry")
    adjust.add_argument("--org", required=True, help="id or name")
    adjust.add_argument("--usd", type=usd, help="to the customer (2.50) or from it (-0.50); of a record: default all")
    adjust.add_argument("--reason", required=True, help="stands in the history")
    subject = adjust.add_mutually_exclusive_group()
    subject.add_argument("--record", metavar="use_…", help="give back what this record was charged")
    subject.add_argument("--request", metavar="req_…", help="likewise, all records of a request")
    adjust.add_argument("--id", help="txn_… of your own: the same adjustment again is then harmless")
    listing = actions.add("list", _list, "grants, and what is left of them, in the order in which they are drawn")
    listing.add_argument("--org", required=True, help="id or name")
    history = actions.add("history", _history, "what was posted, one by one; usage by the day")
    history.add_argument("--org", required=True, help="id or name")
    history.add_argument("--since", type=instant, metavar="DATE", help="default: from the beginning")
    unknown = actions.add("unknown", _unknown, "records whose count is not known, and what is reserved for them")
    unknown.add_argument("--org", help="id or name (default: all)")
    settle = actions.add(
        "settle-unknown", _settle_unknown, "say what an unknown record made, before its reserve lapses"
    )
    settle.add_argument("record", metavar="use_…")
    settle.add_argument("--output", type=int, required=True, metavar="N", help="tokens of output")
    settle.add_argument("--reasoning", type=int, default=0, metavar="N", help="tokens of reasoning")
    settle.add_argument("--reason", required=True, help="how this is known")
    settle.add_argument("--id", help="txn_… of your own: the same again is then harmless")
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
    owner = await organization(connection, args.org)
    txn_id, kind = _id(args), GrantKind.PAID if args.paid else GrantKind.PROMOTIONAL
    if args.priority is not None and not -32768 <= args.priority <= 32767:
        raise Failure("--priority is between -32768 and 32767", 2)
    now = await ledger.grant(connection, owner.id, args.usd, txn_id, kind, args.expires, args.priority)
    return Granted(
        id=txn_id, organization=owner.id, amount_nano_usd=args.usd, kind=kind, expires=args.expires, granted_now=now
    )


def _id(args: argparse.Namespace) -> str:
    if args.id is not None and not args.id.startswith("txn_"):
        raise Failure("--id begins with txn_", 2)
    return args.id or new_id("txn")


async def _adjust(connection: Connection, args: argparse.Namespace) -> Result:
    owner, txn_id, subject = await organization(connection, args.org), _id(args), args.record or args.request
    if subject is None:
        if args.usd is None:
            raise Failure("say how much: --usd", 2)
        wanted = Adjustment(id=txn_id, organization=owner.id, amount=args.usd, subject=None, reason=args.reason)
        now, amount = await corrections.adjust(connection, wanted), args.usd
    else:
        made = await corrections.correct(
            connection,
            owner.id,
            subject,
            amount=args.usd,
            id=txn_id,
            reason=args.reason,
            now=datetime.now(UTC),
        )
        now = made is not None
        amount = (made or await _adjustment(connection, owner.id, txn_id)).amount
    return Adjusted(
        id=txn_id, organization=owner.id, amount_nano_usd=amount, subject=subject, reason=args.reason, adjusted_now=now
    )


async def _adjustment(connection: Connection, owner: str, txn_id: str) -> corrections.Adjusted:
    return next(one for one in await corrections.adjustments(connection, owner) if one.id == txn_id)


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    return [
        Grant(
            id=one.account.split(":", 2)[-1],
            left_nano_usd=one.left,
            granted_nano_usd=one.granted,
            priority=one.priority,
            expires=one.expires,
            created=one.created,
        )
        for one in await statements.grants(connection, owner.id)
    ]


async def _history(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    reasons = {one.id: one.reason for one in await corrections.adjustments(connection, owner.id)}
    told = await statements.statement(
        connection,
        owner.id,
        since=args.since or datetime(1970, 1, 1, tzinfo=UTC),
        until=datetime(9999, 1, 1, tzinfo=UTC),
    )
    return [
        Entry(
            posted=line.posted,
            kind=line.kind.value,
            amount_nano_usd=line.amount,
            source=line.source,
            reason=reasons.get(line.adjustment or ""),
        )
        for line in told.lines
    ]


async def _unknown(connection: Connection, args: argparse.Namespace) -> Result:
    owner = None if args.org is None else (await organization(connection, args.org)).id
    return [
        Unknown(record=one.record, organization=one.organization, reserved_nano_usd=one.amount, lapses=one.lapses)
        for one in await corrections.reserves(connection, organization=owner)
    ]


async def _settle_unknown(connection: Connection, args: argparse.Namespace) -> Result:
    if args.output < 0 or args.reasoning < 0:
        raise Failure("tokens are not negative", 2)
    record, txn_id = await record_by_id(connection, args.record), _id(args)
    if record is None:
        raise Failure(f"no usage record {args.record} is in the ledger")
    charged = await corrections.settle_unknown(
        connection,
        record,
        await prices.load(connection),
        reasoning=args.reasoning,
        output=args.output,
        id=txn_id,
        reason=args.reason,
    )
    made = await _adjustment(connection, record.organization, txn_id)
    return Adjusted(
        id=txn_id,
        organization=record.organization,
        amount_nano_usd=made.amount,
        subject=record.id,
        reason=made.reason,
        adjusted_now=charged is not None,
    )


async def _show(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    money = await ledger.balance(connection, owner.id)
    return Money(
        organization=owner.id,
        credit_nano_usd=money.credit,
        receivable_nano_usd=money.receivable,
        reserved_nano_usd=money.reserved,
        posted_nano_usd=money.posted,
    )
