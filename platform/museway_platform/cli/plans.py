"""`museway plans`: the limits that an organization starts from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec import Struct

from museway_platform.cli.administration import Result, administer
from museway_platform.cli.limits import METRICS
from museway_platform.cli.prompt import MISUSED, Failure, Parser
from museway_platform.database.pool import Connection
from museway_platform.limits import store
from museway_platform.limits.policy import PlanLimits, RateLimit, RateMetric

_ABOUT = """\
Plans: rate limits per minute that every organization of the plan has. A change reaches all of them within a second. A
limit that is left out at `create` is none; `set` changes what is given, and `none` takes a limit away.
"""


class Plan(Struct, frozen=True, kw_only=True):
    """Limits over all modes, per minute (of concurrent requests: at once). None: no such limit. `special`: how many more
    it has, by mode or another window."""

    id: str
    requests: int | None
    input_tokens: int | None
    output_tokens: int | None
    concurrent_requests: int | None
    special: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("plans", _ABOUT)
    actions = parser.actions()
    actions.add("list", _list, "all of them")
    actions.add("show", _show, "one").add_argument("plan")
    for verb in (actions.add("create", _create, "a new one"), actions.add("set", _set, "change one")):
        verb.add_argument("plan")
        for metric in METRICS:
            verb.add_argument(f"--{metric.replace('_', '-')}", type=_limit, metavar="N")
    return administer(parser, argv)


def _limit(text: str) -> int:
    """A count; -1 stands for `none`."""
    if text == "none":
        return -1
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a count nor none")
    return int(text)


async def _list(connection: Connection, _: argparse.Namespace) -> Result:
    return [_plan(name, limits) for name, limits in (await store.plans(connection)).items()]


async def _show(connection: Connection, args: argparse.Namespace) -> Result:
    return _plan(args.plan, await _existing(connection, args.plan))


async def _create(connection: Connection, args: argparse.Namespace) -> Result:
    if args.plan in await store.plans(connection):
        raise Failure(f"plan {args.plan} exists: museway plans set")
    return await _write(connection, args, PlanLimits())


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    if not _given(args):
        raise Failure("give at least one limit", MISUSED)
    return await _write(connection, args, await _existing(connection, args.plan))


async def _existing(connection: Connection, plan: str) -> PlanLimits:
    plans = await store.plans(connection)
    if plan not in plans:
        raise Failure(f"plan {plan} does not exist; there are {', '.join(plans)}")
    return plans[plan]


async def _write(connection: Connection, args: argparse.Namespace, before: PlanLimits) -> Plan:
    given = _given(args)
    kept = [limit for limit in before.rates if not (_general(limit) and limit.metric in given)]
    new = [
        RateLimit(metric=metric, capacity=count, refill=0 if metric == "concurrent_requests" else count)
        for metric, count in given.items()
        if count >= 0
    ]
    limits = PlanLimits(rates=(*kept, *new))
    await store.set_plan(connection, args.plan, limits)
    return _plan(args.plan, limits)


def _given(args: argparse.Namespace) -> dict[RateMetric, int]:
    return {metric: getattr(args, metric) for metric in METRICS if getattr(args, metric) is not None}


def _general(limit: RateLimit) -> bool:
    """One that a column of `Plan` can show."""
    return limit.mode is None and (limit.window_s == 60 or limit.metric == "concurrent_requests")


def _plan(name: str, limits: PlanLimits) -> Plan:
    shown = {
        limit.metric: limit.capacity if limit.metric == "concurrent_requests" else limit.refill
        for limit in limits.rates
        if _general(limit)
    }
    return Plan(
        id=name,
        requests=shown.get("requests"),
        input_tokens=shown.get("input_tokens"),
        output_tokens=shown.get("output_tokens"),
        concurrent_requests=shown.get("concurrent_requests"),
        special=sum(not _general(limit) for limit in limits.rates),
    )
