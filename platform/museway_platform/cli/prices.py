"""`museway prices`: what a token costs. A price is never changed, only followed by another one under a new version."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from museway_billing.money import NanoUsdPerMtok
from museway_billing.prices import OverrideEnds, Price, PriceBook, PriceVersion, UnknownPrice
from museway_billing.prices import store as prices
from museway_billing.prices.book import ANY_MODEL
from museway_billing.usage import Tariff
from museway_platform.cli.administration import Result, administer, organization
from museway_platform.cli.credits import instant
from museway_platform.cli.money import usd_per_mtok
from museway_platform.cli.prompt import MISUSED, Failure, Parser
from museway_platform.database.pool import Connection

_MODES = ("instant", "thinking", "contemplating")
_CLASSES = ("input", "cached_input", "reasoning", "output")


class Line(Struct, frozen=True, kw_only=True):
    """Prices of one model (`*`: any) and mode, in nano-USD per million tokens. All None: an override that ends."""

    version: int
    effective_from: datetime | None
    organization: str | None
    model: str
    mode: str
    input_nano_usd_per_mtok: int | None
    cached_input_nano_usd_per_mtok: int | None
    reasoning_nano_usd_per_mtok: int | None
    output_nano_usd_per_mtok: int | None
    note: str


def main(argv: Sequence[str]) -> int:
    parser = Parser("prices", "The price book, in USD per million tokens. Gateways know a new version within a second.")
    actions = parser.actions()
    actions.add("list", _list, "every version there ever was").add_argument("--org", help="only its own, by id or name")
    show = actions.add("show", _show, "what is in force")
    show.add_argument("--org", help="for this organization, by id or name (default: for everybody)")
    show.add_argument("--model", default=ANY_MODEL, help="a served model (default: any)")
    show.add_argument("--at", type=instant, metavar="DATE", help="instead of now")
    change = actions.add("set", _set, "announce a new version; a class that is left out keeps its price")
    change.add_argument("--mode", choices=_MODES, required=True)
    change.add_argument("--model", default=ANY_MODEL, help="a served model (default: any)")
    change.add_argument("--org", help="for this organization alone, by id or name")
    for name in _CLASSES:
        change.add_argument(f"--{name.replace('_', '-')}", type=usd_per_mtok, metavar="USD", help="per million tokens")
    change.add_argument(
        "--from", dest="start", type=instant, metavar="DATE", help="when it takes effect (default: now)"
    )
    change.add_argument("--end-override", action="store_true", help="with --org: back to everybody's price")
    change.add_argument("--note", default="", help="for whoever reads the book")
    return administer(parser, argv)


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    owner = None if args.org is None else (await organization(connection, args.org)).id
    book = await prices.seed(connection)
    return [
        line for version in book.versions if owner is None or version.organization == owner for line in _lines(version)
    ]


async def _show(connection: Connection, args: argparse.Namespace) -> Result:
    owner = "" if args.org is None else (await organization(connection, args.org)).id
    book, at = await prices.seed(connection), args.at or datetime.now(UTC)
    return [_line(tariff, owner or None, args.model, mode) for mode, tariff in _in_force(book, owner, args.model, at)]


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    owner = None if args.org is None else (await organization(connection, args.org)).id
    given = {name: getattr(args, name) for name in _CLASSES if getattr(args, name) is not None}
    if args.end_override == bool(given) or (args.end_override and owner is None):
        raise Failure("give at least one price, or --org with --end-override", MISUSED)
    now = datetime.now(UTC)
    book, start = await prices.seed(connection), args.start or now
    version = PriceVersion(
        version=book.last_version + 1,
        effective_from=start,
        organization=owner,
        note=args.note,
        prices=() if args.end_override else (_price(book, owner or "", args, given, max(start, now)),),
        ends=(OverrideEnds(model=args.model, mode=args.mode),) if args.end_override else (),
    )
    await prices.announce(connection, version, now=now)
    return _lines(version)


def _price(
    book: PriceBook, owner: str, args: argparse.Namespace, given: dict[str, NanoUsdPerMtok], at: datetime
) -> Price:
    """What is given over what will be in force then. Raises Failure where nothing is and a class was left out."""
    before = dict(_in_force(book, owner, args.model, at)).get(args.mode)
    if before is None and len(given) < len(_CLASSES):
        raise Failure(f"{args.mode} has no price yet: give all of {', '.join(_CLASSES)}", MISUSED)
    kept: dict[str, NanoUsdPerMtok] = {
        name: given[name] if name in given else getattr(before, name) for name in _CLASSES
    }
    return Price(model=args.model, mode=args.mode, **kept)


def _in_force(book: PriceBook, owner: str, model: str, at: datetime) -> list[tuple[str, Tariff]]:
    found: list[tuple[str, Tariff]] = []
    for mode in _MODES:
        try:
            found.append((mode, book.tariff(owner, model, mode, at)))
        except UnknownPrice:
            continue
    return found


def _lines(version: PriceVersion) -> list[Line]:
    tariffs = [
        (price, Tariff(version.version, price.input, price.cached_input, price.reasoning, price.output))
        for price in version.prices
    ]
    priced = [
        _line(tariff, version.organization, price.model, price.mode, version.effective_from, version.note)
        for price, tariff in tariffs
    ]
    ended = [
        Line(
            version=version.version,
            effective_from=version.effective_from,
            organization=version.organization,
            model=end.model,
            mode=end.mode,
            input_nano_usd_per_mtok=None,
            cached_input_nano_usd_per_mtok=None,
            reasoning_nano_usd_per_mtok=None,
            output_nano_usd_per_mtok=None,
            note=version.note or "override ends",
        )
        for end in version.ends
    ]
    return priced + ended


def _line(
    tariff: Tariff, owner: str | None, model: str, mode: str, start: datetime | None = None, note: str = ""
) -> Line:
    return Line(
        version=tariff.version,
        effective_from=start,
        organization=owner,
        model=model,
        mode=mode,
        input_nano_usd_per_mtok=tariff.input,
        cached_input_nano_usd_per_mtok=tariff.cached_input,
        reasoning_nano_usd_per_mtok=tariff.reasoning,
        output_nano_usd_per_mtok=tariff.output,
        note=note,
    )
