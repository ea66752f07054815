"""`museway caps`: what may be spent, at most, in a period. A cap stops, exactly; it is not a rate."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec import Struct

from museway_platform.cli.administration import Result, administer, scope, with_scope
from museway_platform.cli.money import usd
from museway_platform.cli.prompt import MISUSED, Failure, Parser
from museway_platform.database.pool import Connection
from museway_platform.limits import store
from museway_platform.limits.policy import Cap

_PERIODS = ("day", "week", "month", "total")


class Capped(Struct, frozen=True, kw_only=True):
    """`period` in UTC, weeks from Monday; `total` for ever."""

    scope: str
    scope_id: str
    period: str
    amount_nano_usd: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("caps", "Spending caps, by the time of admission. What was spent in the current period counts.")
    actions = parser.actions()
    with_scope(actions.add("list", _list, "the caps of one organization, project or key"))
    change = with_scope(actions.add("set", _set, "set or change one"))
    change.add_argument("--usd", type=usd, required=True, help="how much, such as 10 or 0.5")
    remove = with_scope(actions.add("remove", _remove, "take one away"))
    for verb in (change, remove):
        verb.add_argument("--period", choices=_PERIODS, required=True)
    return administer(parser, argv)


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    kind, scope_id = await scope(connection, args)
    policy = (await store.policies(connection, [scope_id])).get(scope_id)
    caps = () if policy is None else policy.caps
    return [
        Capped(scope=kind, scope_id=scope_id, period=cap.period, amount_nano_usd=cap.amount_nano_usd)
        for cap in sorted(caps, key=lambda cap: _PERIODS.index(cap.period))
    ]


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    if args.usd < 0:
        raise Failure("a cap is not negative", MISUSED)
    kind, scope_id = await scope(connection, args)
    await store.set_cap(connection, kind, scope_id, Cap(period=args.period, amount_nano_usd=args.usd))
    return Capped(scope=kind, scope_id=scope_id, period=args.period, amount_nano_usd=args.usd)


async def _remove(connection: Connection, args: argparse.Namespace) -> Result:
    kind, scope_id = await scope(connection, args)
    if not await store.clear_cap(connection, kind, scope_id, args.period):
        raise Failure(f"{scope_id} has no cap per {args.period}")
    return await _list(connection, args)
