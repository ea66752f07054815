"""`museway bench`: a small load against a running gateway, as one customer sees it. The gateway itself is measured beside
its peers by `make bench`, which is another thing."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

from msgspec import Struct

from museway import AsyncMuseway, ConfigurationError, MusewayError, Options, OutputDelta, ReasoningDelta, RetryPolicy
from museway_platform.cli.prompt import MISUSED, Failure, Parser, answer
from museway_platform.cli.show import show

_ABOUT = """\
Ask the same thing many times at once and say how it went. It costs what it says it costs. The key and address are those of
the SDK: MUSEWAY_API_KEY and MUSEWAY_BASE_URL, or the arguments.
"""
_MODES = ("instant", "thinking", "contemplating", "auto")


class Load(Struct, frozen=True, kw_only=True):
    """Times in milliseconds, from sending to the first visible token and to the end. Tokens as billed."""

    requests: int
    failed: int
    seconds: float
    requests_per_s: float
    tokens: int
    tokens_per_s: float
    first_token_ms_p50: float
    first_token_ms_p99: float
    total_ms_p50: float
    total_ms_p99: float
    cost_nano_usd: int


class _One(Struct, frozen=True):
    first_s: float
    total_s: float
    tokens: int
    cost: int


def main(argv: Sequence[str]) -> int:
    parser = Parser("bench", _ABOUT).with_json()
    parser.add_argument("--base-url", help="the gateway (default: MUSEWAY_BASE_URL)")
    parser.add_argument("--key", help="an API key (default: MUSEWAY_API_KEY)")
    parser.add_argument("--requests", type=int, default=50, help="how many in all (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=8, help="how many at once (default: %(default)s)")
    parser.add_argument("--mode", choices=_MODES, default="instant", help="(default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--prompt", default="Count from one to fifty.", help="(default: %(default)s)")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    if args.requests < 1 or args.concurrency < 1:
        raise Failure("--requests and --concurrency are at least 1", MISUSED)
    try:
        load = asyncio.run(_load(args))
    except ConfigurationError as error:
        raise Failure(error.message, MISUSED) from error
    show(load, as_json=args.json)
    return 1 if load.failed else 0


async def _load(args: argparse.Namespace) -> Load:
    options = Options(mode=args.mode, max_tokens=args.max_tokens)
    done: list[_One] = []
    failures: list[MusewayError] = []
    waiting = iter(range(args.requests))
    # A refusal is a result here, not something to wait out.
    retry = RetryPolicy(max_retries=0)

    async with AsyncMuseway(api_key=args.key, base_url=args.base_url, retry=retry) as client:

        async def worker() -> None:
            for _ in waiting:
                try:
                    done.append(await _ask(client, args.prompt, options))
                except MusewayError as error:
                    failures.append(error)

        began = time.monotonic()
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(args.concurrency, args.requests)):
                workers.create_task(worker())
        seconds = time.monotonic() - began
    if not done:
        raise Failure(f"every request failed, the last with: {failures[-1].message}")
    return _summary(done, failed=len(failures), seconds=seconds)


async def _ask(client: AsyncMuseway, prompt: str, options: Options) -> _One:
    began, first = time.monotonic(), 0.0
    async with client.stream(prompt, **options) as stream:
        async for event in stream:
            if not first and isinstance(event, OutputDelta | ReasoningDelta):
                first = time.monotonic()
    ended, reply = time.monotonic(), stream.reply
    tokens = 0 if reply.usage is None else reply.usage.completion_tokens
    cost = 0 if reply.cost is None else reply.cost.nano_usd
    return _One((first or ended) - began, ended - began, tokens, cost)


def _summary(done: Sequence[_One], *, failed: int, seconds: float) -> Load:
    firsts, totals = sorted(one.first_s for one in done), sorted(one.total_s for one in done)
    tokens = sum(one.tokens for one in done)
    return Load(
        requests=len(done) + failed,
        failed=failed,
        seconds=round(seconds, 3),
        requests_per_s=round(len(done) / seconds, 2),
        tokens=tokens,
        tokens_per_s=round(tokens / seconds, 1),
        first_token_ms_p50=_at(firsts, 50),
        first_token_ms_p99=_at(firsts, 99),
        total_ms_p50=_at(totals, 50),
        total_ms_p99=_at(totals, 99),
        cost_nano_usd=sum(one.cost for one in done),
    )


def _at(ordered: Sequence[float], percent: int) -> float:
    """The value that `percent` of all do not exceed, in milliseconds."""
    place = max(0, -(-len(ordered) * percent // 100) - 1)
    return round(ordered[place] * 1000, 1)
