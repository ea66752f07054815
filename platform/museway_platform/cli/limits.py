"""`museway limits`: rate limits of an organization, a project or a key, beside or in place of the plan's."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from msgspec import Struct

from museway_platform.cli.administration import Result, administer, organization, scope, with_scope
from museway_platform.cli.prompt import Failure, Parser
from museway_platform.database.pool import Connection
from museway_platform.limits import store
from museway_platform.limits.limiter import Scope
from museway_platform.limits.policy import RateLimit, RateMetric
from museway_platform.limits.refused.store import refused_requests

METRICS: tuple[RateMetric, ...] = ("requests", "input_tokens", "output_tokens", "concurrent_requests")
MODES = ("instant", "thinking", "contemplating", "auto")


class Limit(Struct, frozen=True, kw_only=True):
    """`capacity` at once, of which `refill` come back per `window_s`; of concurrent requests, how many at once."""

    scope: str
    scope_id: str
    metric: str
    mode: str | None
    capacity: int
    refill: int
    window_s: int
    set_by: str


class Change(Struct, frozen=True, kw_only=True):
    """What a command did, or with --dry-run would do, to one limit. None: no limit."""

    scope: str
    scope_id: str
    metric: str
    mode: str | None
    before: str | None
    after: str | None
    applied: bool


def main(argv: Sequence[str]) -> int:
    parser = Parser("limits", "Rate limits. All that apply must have room: organization, project and key.")
    actions = parser.actions()
    with_scope(actions.add("list", _list, "what applies, and who set it"))
    change = with_scope(actions.add("set", _set, "set or change one limit"))
    change.add_argument(
        "--limit", type=_count, required=True, metavar="N", help="per window; of concurrent requests: at once"
    )
    change.add_argument("--window", type=int, default=60, metavar="SECONDS", help="(default: %(default)s)")
    change.add_argument("--burst", type=_count, metavar="N", help="how much at once (default: the limit)")
    refusals = actions.add("refusals", _refusals, "why requests of an organization were limited, the newest first")
    refusals.add_argument("--org", required=True, metavar="ORG", help="organization, by id or name")
    refusals.add_argument("--key", metavar="KEY", help="of one key, by id")
    refusals.add_argument("--limit", type=_count, default=20, metavar="N", help="at most (default: %(default)s)")
    remove = with_scope(actions.add("remove", _remove, "take one back; an organization's plan counts again"))
    for verb in (change, remove):
        verb.add_argument("--metric", choices=METRICS, required=True)
        verb.add_argument("--mode", choices=MODES, help="of this mode alone (default: all together)")
        verb.add_argument("--dry-run", action="store_true", help="only say what would change")
    return administer(parser, argv)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no count")
    return int(text)


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    kind, scope_id = await scope(connection, args)
    return await effective(connection, kind, scope_id)


async def effective(connection: Connection, kind: Scope, scope_id: str) -> list[Limit]:
    """The limits of one scope: its own, and of an organization the plan's that it has none of its own for."""
    policy = (await store.policies(connection, [scope_id])).get(scope_id)
    own = () if policy is None else policy.rates
    limits = [_row(kind, scope_id, limit, kind) for limit in own]
    if kind == "organization":
        plan = (await store.terms(connection, organizations=[scope_id]))[0].plan
        taken = {(limit.metric, limit.mode) for limit in own}
        inherited = (await store.plans(connection))[plan].rates
        limits += [
            _row(kind, scope_id, limit, f"plan {plan}")
            for limit in inherited
            if (limit.metric, limit.mode) not in taken
        ]
    return sorted(limits, key=lambda limit: (list[str](METRICS).index(limit.metric), limit.mode or ""))


def _row(kind: Scope, scope_id: str, limit: RateLimit, set_by: str) -> Limit:
    return Limit(
        scope=kind,
        scope_id=scope_id,
        metric=limit.metric,
        mode=limit.mode,
        capacity=limit.capacity,
        refill=limit.refill,
        window_s=limit.window_s,
        set_by=set_by,
    )


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    kind, scope_id = await scope(connection, args)
    flows = args.metric != "concurrent_requests"
    if args.window < 1:
        raise Failure("--window is at least one second", 2)
    limit = RateLimit(
        metric=args.metric,
        capacity=args.limit if args.burst is None else args.burst,
        refill=args.limit if flows else 0,
        window_s=args.window,
        mode=args.mode,
    )
    before = await effective(connection, kind, scope_id)
    if not args.dry_run:
        await store.set_rate(connection, kind, scope_id, limit)
    after = _row(kind, scope_id, limit, kind)
    return _change(args, kind, scope_id, before, [after])


async def _remove(connection: Connection, args: argparse.Namespace) -> Result:
    kind, scope_id = await scope(connection, args)
    before = await effective(connection, kind, scope_id)
    if not any(one.metric == args.metric and one.mode == args.mode and one.set_by == kind for one in before):
        raise Failure(f"{scope_id} has no limit of its own of {args.metric}")
    await store.clear_rate(connection, kind, scope_id, args.metric, args.mode)
    after = await effective(connection, kind, scope_id)
    if args.dry_run:
        own = next(one for one in before if (one.metric, one.mode, one.set_by) == (args.metric, args.mode, kind))
        limit = RateLimit(
            metric=args.metric, capacity=own.capacity, refill=own.refill, window_s=own.window_s, mode=own.mode
        )
        await store.set_rate(connection, kind, scope_id, limit)  # in the same transaction: nobody saw it gone
    return _change(args, kind, scope_id, before, after)


async def _refusals(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    return await refused_requests(connection, owner.id, key=args.key, limit=args.limit)


def _change(
    args: argparse.Namespace, kind: str, scope_id: str, before: Iterable[Limit], after: Iterable[Limit]
) -> Change:
    def told(limits: Iterable[Limit]) -> str | None:
        limit = next((one for one in limits if one.metric == args.metric and one.mode == args.mode), None)
        if limit is None:
            return None
        rate = (
            f"{limit.refill:,} per {limit.window_s:,} s, {limit.capacity:,} at once"
            if limit.refill
            else f"{limit.capacity:,}"
        )
        return rate if limit.set_by == kind else f"{rate} ({limit.set_by})"

    return Change(
        scope=kind,
        scope_id=scope_id,
        metric=args.metric,
        mode=args.mode,
        before=told(before),
        after=told(after),
        applied=not args.dry_run,
    )
