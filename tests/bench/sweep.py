"""`python -m bench.sweep`: how much of a rate limit is granted at twice its load, and whether ever more.

A limit of output tokens with capacity C and refill r grants at most C + r*t in a window of t seconds. Streams of 64 tokens
ask for twice the refill; what was granted is what was delivered to them, to the end of those that ran at the window's. One
line a cell of streams and gateway processes: granted ÷ (C + r*t), which is to be at least 0.99 and never above 1, and the
CPU of the gateway, below 0.6 of a core, so that the limit is what is measured. More than one process needs `--redis URL`
(an empty database of it).
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from bench.caller import ask, get_json
from bench.mix import Planned
from bench.processes import BenchProcess, cpu_ns, free_port, tree, without_database
from bench.tools import Fakeup, build

_TOKENS = 64
_CORE = 0
_SEEN_S = 10.0


class Cell(Struct, frozen=True, kw_only=True):
    """`gap_us` between two tokens of a stream: streams / gap are offered a second, half of it is the refill."""

    streams: int
    gap_us: int
    processes: int = 1

    @property
    def refill(self) -> int:
        """Tokens a second."""
        return self.streams * 1_000_000 // self.gap_us // 2

    @property
    def capacity(self) -> int:
        return max(self.streams * _TOKENS, self.refill)


PACES = {1: 1_000, 16: 8_000, 128: 40_000, 1024: 320_000}
"""Microseconds between tokens by number of streams: the gateway stays far from saturated."""


class Outcome(Struct, frozen=True, kw_only=True):
    cell: Cell
    granted: int
    allowed: int
    refused: int
    failed: int
    cpu: float
    """Cores, on average."""

    @property
    def ratio(self) -> float:
        return self.granted / self.allowed


class Gateway:
    """`museway up` with as many processes as the cell says, and one limit of output tokens."""

    def __init__(self, cell: Cell, worker: Fakeup, folder: Path, redis: str | None) -> None:
        port = free_port()
        self._environment = {
            "MUSEWAY_ENGINE_URLS": f"http://127.0.0.1:{worker.port}",
            "MUSEWAY_DATA_DIR": str(folder / "data"),
            "MUSEWAY_PORT": str(port),
            "MUSEWAY_PROCESSES": str(cell.processes),
            **({} if redis is None else {"MUSEWAY_REDIS_URL": redis}),
        }
        self._program = str(Path(sys.executable).parent / "museway")
        self.process = BenchProcess(
            [self._program, "up", "--json"], core=_CORE, environment=self._environment, folder=folder, pipe_output=True
        )
        assert self.process.process.stdout is not None
        line = self.process.process.stdout.readline()
        if not line:
            self.process.__exit__()
            raise self.process.ended_early()
        ready = json.loads(line)
        self.url, self.key = str(ready["base_url"]), str(ready["key"])

    def limit(self, cell: Cell) -> None:
        """Set the limit. Raises CalledProcessError."""
        words = (
            f"limits set --org Default --metric output_tokens --window 1 --limit {cell.refill} --burst {cell.capacity}"
        )
        environment = {**self._environment, "PATH": str(Path(self._program).parent)}
        subprocess.run([self._program, *words.split()], env=environment, check=True, stdout=subprocess.DEVNULL)

    async def limited(self) -> None:
        """Wait until the gateway knows of the limit. Raises TimeoutError."""
        for _ in range(int(_SEEN_S / 0.1)):
            if len((await get_json(self.url, self.key, "/v1/limits"))["data"]) > 1:
                await asyncio.sleep(1.0)  # other processes have another second
                return
            await asyncio.sleep(0.1)
        raise TimeoutError("the gateway has not heard of the limit")


async def measure(cell: Cell, gateway: Gateway, seconds: float) -> Outcome:
    """Load one cell. The window ends with the last stream that was admitted in it."""
    await gateway.limited()
    own = without_database(tree(gateway.process.pid))
    granted = refused = failed = 0
    spent, began = cpu_ns(own), time.monotonic()
    ends = began + seconds
    body = {
        "model": "muse",
        "messages": [{"role": "user", "content": "Go."}],
        "max_tokens": _TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    async def client(chance: random.Random) -> None:
        nonlocal granted, refused, failed
        while time.monotonic() < ends:
            answer = await ask(gateway.url, gateway.key, Planned(form="sweep", body=body, leaves_after=None))
            if answer.status == 200 and not answer.problem:
                granted += answer.usage["completion_tokens"] if answer.usage else 0
            elif answer.status == 429:
                refused += 1
                await asyncio.sleep(chance.uniform(0.5, 1.5) * max(0.02, cell.streams / 1000))
            else:
                failed += 1

    await asyncio.gather(*(client(random.Random(number)) for number in range(cell.streams)))
    stopped = time.monotonic()
    # A stream that ran at the end was admitted before it, with all its tokens: they were granted in the window.
    return Outcome(
        cell=cell,
        granted=granted,
        allowed=int(cell.capacity + cell.refill * seconds),
        refused=refused,
        failed=failed,
        cpu=(cpu_ns(own) - spent) / 1e9 / (stopped - began),
    )


def table(outcomes: list[Outcome], seconds: float) -> str:
    """Markdown."""
    lines = [
        f"Windows of {seconds:.0f} s; capacity C, refill r a second, offered 2 r.",
        "",
        "| processes | streams | C | r | granted ÷ (C + r·t) | refused | failed | cores |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in outcomes:
        cell = one.cell
        lines.append(
            f"| {cell.processes} | {cell.streams:,} | {cell.capacity:,} | {cell.refill:,} | {one.ratio:.4f} |"
            f" {one.refused:,} | {one.failed:,} | {one.cpu:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--streams", default="1,16,128,1024")
    parser.add_argument("--processes", default="1")
    parser.add_argument("--redis", help="needed for more than one process")
    args = parser.parse_args()
    outcomes: list[Outcome] = []
    for processes in map(int, args.processes.split(",")):
        for streams in map(int, args.streams.split(",")):
            cell = Cell(streams=streams, gap_us=PACES[streams], processes=processes)
            outcomes.append(_one(cell, args.seconds, args.redis))
            print(table(outcomes[-1:], args.seconds).splitlines()[-1], flush=True)
    print(table(outcomes, args.seconds))


def _one(cell: Cell, seconds: float, redis: str | None) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="museway-sweep-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        build(folder)
        worker = Fakeup(folder)
        with worker.process:
            worker.set_interval(cell.gap_us)
            gateway = Gateway(cell, worker, folder, redis)
            with gateway.process:
                gateway.limit(cell)
                return asyncio.run(measure(cell, gateway, seconds))


if __name__ == "__main__":
    main()
