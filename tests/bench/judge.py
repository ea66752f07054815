"""`python -m bench.judge`: 2,000 mixed requests, 300 of them left in the middle, and every token accounted for.

Start a fake worker, start a gateway on it, then judge: the worker's book is compared with `museway usage export`, with
what the clients got, and with the balance before and after. Exit 1 names what differs. The organization must have
credit, no rate limit in the way and no other traffic.

    python -m doubles.fake_worker --port 31999 --delay-ms 2 &
    MUSEWAY_ENGINE_URLS=http://127.0.0.1:31999 museway up --json &
    python -m bench.judge --url http://127.0.0.1:8400 --key mw_… --worker http://127.0.0.1:31999
"""

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.caller import Delivered, ask, get_json
from bench.mix import planned
from bench.verdict import Balance, Difference, Record, compare, compare_balance, compare_delivered
from doubles.fake_worker.book import Entry
from doubles.worker_process import FakeWorker

_SETTLED_S = 30.0
_POLL_S = 0.2
_SHOWN = 40
_records = msgspec.json.Decoder(Record)
Export = Callable[[], str]
"""`museway usage export`: JSON Lines."""


class Target(Struct, frozen=True, kw_only=True):
    """The gateway under judgement."""

    url: str
    key: str
    organization: str | None = None
    """Only this one's records are judged; None judges all that are new."""
    model: str = "muse"
    worker: FakeWorker
    export: Export


class Load(Struct, frozen=True, kw_only=True):
    """How much to ask, and how much of it at a time."""

    requests: int = 2000
    hangups: int = 300
    concurrency: int = 48
    seed: int = 1


class Verdict(Struct, kw_only=True):
    """What was done and what does not agree."""

    differences: list[Difference]
    asked: int
    left: int
    calls: int
    tokens: int
    charged_nano_usd: int
    states: dict[str, int]
    seconds: float


async def judge(target: Target, load: Load) -> Verdict:
    """Load the gateway, wait until it is settled, compare. Raises TimeoutError where it does not settle in 30 s."""
    before = await _balance(target)
    earlier = {record.id for record in _read(target)}
    known = {entry.rid for entry in target.worker.book()}
    began = time.monotonic()
    delivered = await _ask_all(target, load)
    seconds = time.monotonic() - began
    book = [entry for entry in await asyncio.to_thread(target.worker.wait_idle, _SETTLED_S) if entry.rid not in known]
    records, after = await _settled(target, book, earlier, before)
    differences = sorted(
        {*compare(book, records), *compare_delivered(delivered, records), *compare_balance(before, after, records)}
    )
    return Verdict(
        differences=differences,
        asked=len(delivered),
        left=sum(one.left for one in delivered),
        calls=len(records),
        tokens=sum(record.billed for record in records),
        charged_nano_usd=sum(record.amount_nano_usd - record.credited_nano_usd for record in records),
        states=dict(Counter(record.state for record in records)),
        seconds=seconds,
    )


async def _ask_all(target: Target, load: Load) -> list[Delivered]:
    """All requests, `concurrency` at a time, in the order of the plan."""
    plan = planned(load.requests, load.hangups, seed=load.seed, model=target.model)
    delivered: list[Delivered] = []

    async def one_after_the_other() -> None:
        for request in plan:  # shared: each of them takes the next
            delivered.append(await ask(target.url, target.key, request))

    async with asyncio.TaskGroup() as group:
        for _ in range(load.concurrency):
            group.create_task(one_after_the_other())
    return delivered


async def _settled(
    target: Target, book: list[Entry], earlier: set[str], before: Balance
) -> tuple[list[Record], Balance]:
    """The new records and the balance once every call has its record and nothing is held or undrained.

    What has not settled in time is judged as it stands: the comparison then names it.
    """
    calls = {entry.rid for entry in book if entry.rid.startswith("req_")}
    ends = time.monotonic() + _SETTLED_S
    while True:
        balance = await _balance(target)
        records = [record for record in await asyncio.to_thread(_read, target) if record.id not in earlier]
        is_still = balance.held_nano_usd <= before.held_nano_usd and not balance.undrained_nano_usd
        if (is_still and calls <= {record.rid for record in records}) or time.monotonic() > ends:
            return records, await _balance(target)
        await asyncio.sleep(_POLL_S)


async def _balance(target: Target) -> Balance:
    return msgspec.convert(await get_json(target.url, target.key, "/v1/balance"), Balance)


def _read(target: Target) -> list[Record]:
    lines = [line for line in target.export().splitlines() if line.strip()]
    if target.organization is not None:
        lines = [line for line in lines if json.loads(line)["organization"] == target.organization]
    return [_records.decode(line) for line in lines]


def exported_by(command: str) -> Export:
    """The export by a shell-like command line. It raises CalledProcessError, the command's error text on standard error."""

    def export() -> str:
        return subprocess.run(shlex.split(command), check=True, stdout=subprocess.PIPE, text=True).stdout

    return export


def main() -> int:
    """Judge and tell; 1 where anything differs."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.judge", formatter_class=argparse.RawTextHelpFormatter, description=__doc__
    )
    parser.add_argument("--url", required=True, help="the gateway's base URL")
    parser.add_argument("--key", required=True, help="an API key of an organization with credit and plan `unlimited`")
    parser.add_argument("--worker", required=True, help="the fake worker's URL")
    parser.add_argument("--organization", help="judge only its records")
    parser.add_argument("--model", default="muse")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--hangups", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    default = str(Path(sys.executable).parent / "museway") + " usage export"
    parser.add_argument("--export", default=default, help="prints the export (default: %(default)s)")
    asked = parser.parse_args()
    target = Target(
        url=asked.url,
        key=asked.key,
        organization=asked.organization,
        model=asked.model,
        worker=FakeWorker.at(asked.worker),
        export=exported_by(asked.export),
    )
    load = Load(requests=asked.requests, hangups=asked.hangups, concurrency=asked.concurrency, seed=asked.seed)
    verdict = asyncio.run(judge(target, load))
    print(summary(verdict))
    return 1 if verdict.differences else 0


def summary(verdict: Verdict) -> str:
    """What a person reads: one line, or what differs."""
    dollars = verdict.charged_nano_usd / 1e9
    done = (
        f"{verdict.asked} requests ({verdict.left} left in the middle), {verdict.calls} engine calls, {verdict.tokens} tokens, "
        f"${dollars:.6f} in {verdict.seconds:.1f} s; states {verdict.states}"
    )
    if not verdict.differences:
        return f"{done}\nevery token accounted for"
    shown = [f"  {one.about}: {one.what}" for one in verdict.differences[:_SHOWN]]
    hidden = len(verdict.differences) - len(shown)
    return "\n".join(
        [done, f"{len(verdict.differences)} differences:", *shown, *([f"  … {hidden} more"] if hidden else [])]
    )


if __name__ == "__main__":
    sys.exit(main())
