"""`python -m bench.run`: what the gateway costs beside a skeleton and nginx, in interleaved rounds A B C, A B C.

Each round loads every subject in turn, so that a busy neighbour meets all of them; the table shows medians and ratios.
CPU is what the kernel's scheduler charged the subject's processes, PostgreSQL apart; subjects run on core 0, worker and
client on core 1. `--gateway-cmd` measures another start of the gateway, `--without-gateway` none.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Literal

from msgspec import Struct

from bench.processes import cpu_ns, memory_mib, tree, without_database
from bench.subjects import Running, Starter, gateway, nginx, nginx_program, running, skeleton
from bench.table import Report, write_report
from bench.tools import Fakeup, Load, build, load

_PACE_US = 20_000
_TOKENS = 64
_WARM_UP_S = 0.7
_RATE_MAX = 150.0
"""Streams a second; 9,600 tokens a second."""


class Scenario(Struct, frozen=True, kw_only=True):
    """One kind of load."""

    name: Literal["json", "paced", "saturated"]
    connections: int
    interval_us: int
    stream: bool


SCENARIOS = (
    Scenario(name="json", connections=32, interval_us=0, stream=False),
    Scenario(name="paced", connections=100, interval_us=_PACE_US, stream=True),
    Scenario(name="saturated", connections=32, interval_us=0, stream=True),
)


class Bench:
    """Subjects that run, and every number measured so far: (subject, measure) → one value a round."""

    def __init__(self, folder: Path, worker: Fakeup, subjects: list[Running], seconds: float) -> None:
        self._folder = folder
        self._worker = worker
        self._subjects = subjects
        self._seconds = seconds
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.errors: dict[str, int] = defaultdict(int)

    def warm_up(self) -> None:
        """Fill pools and caches; memory before it is the idle memory."""
        for subject in self._subjects:
            self._note(subject, "idle MiB", memory_mib(without_database(tree(subject.process.pid))))
        for scenario in SCENARIOS:
            self._worker.set_interval(scenario.interval_us)
            for subject in self._subjects:
                self._load(subject, scenario, _WARM_UP_S)

    def round(self) -> None:
        """Every scenario over every subject, then half of each one's own capacity."""
        for scenario in SCENARIOS:
            self._worker.set_interval(scenario.interval_us)
            for subject in self._subjects:
                self._measure(subject, scenario)
        self._worker.set_interval(_PACE_US)
        self._half_load()

    def _measure(self, subject: Running, scenario: Scenario) -> None:
        everyone = tree(subject.process.pid)
        own = without_database(everyone)
        others = [pid for pid in everyone if pid not in own]
        before, database_before = cpu_ns(own), cpu_ns(others)
        seen = self._load(subject, scenario, self._seconds)
        spent, database_spent = cpu_ns(own) - before, cpu_ns(others) - database_before
        units = max(1, seen.tokens if scenario.stream else seen.requests)
        self._note(subject, f"{scenario.name} us", spent / 1000 / units)
        self._note(subject, f"{scenario.name} database us", database_spent / 1000 / units)
        self._note(subject, f"{scenario.name} per s", units / seen.seconds)
        self._note(subject, f"{scenario.name} age p50 us", seen.age_us[0])
        self._note(subject, f"{scenario.name} age p99 us", seen.age_us[1])
        self._note(subject, "loaded MiB", memory_mib(own))

    def _half_load(self) -> None:
        """Time to the first token, less that of the worker alone, at half the streams that the dearest subject can carry.

        All subjects get the same rate, at most what worker and client carry easily on the core that they share.
        """
        dearest_us = max(self.median(subject.name, "paced us") for subject in self._subjects)
        rate = min(_RATE_MAX, 1e6 / (_TOKENS * dearest_us) / 2)
        alone = self._first_token(self._worker.port, "", rate)
        for subject in self._subjects:
            seen = self._first_token(subject.port, subject.key, rate)
            self.errors[subject.name] += seen.errors
            self._note(subject, "half load streams/s", rate)
            self._note(subject, "added first token p50 us", seen.first_token_us[0] - alone.first_token_us[0])
            self._note(subject, "added first token p99 us", seen.first_token_us[1] - alone.first_token_us[1])

    def _first_token(self, port: int, key: str, rate: float) -> Load:
        connections = int(rate * _TOKENS * _PACE_US / 1e6 * 2) + 16
        seconds = self._seconds + _TOKENS * _PACE_US / 1e6
        return load(self._folder, port=port, key=key, connections=connections, seconds=seconds, stream=True, rate=rate)

    def _load(self, subject: Running, scenario: Scenario, seconds: float) -> Load:
        seen = load(
            self._folder,
            port=subject.port,
            key=subject.key,
            connections=scenario.connections,
            seconds=seconds,
            stream=scenario.stream,
        )
        self.errors[subject.name] += seen.errors
        return seen

    def _note(self, subject: Running, measure: str, value: float) -> None:
        self.values[subject.name, measure].append(value)

    def median(self, name: str, measure: str) -> float:
        return statistics.median(self.values[name, measure])

    def report(self) -> Report:
        names = [subject.name for subject in self._subjects]
        medians = {key: statistics.median(values) for key, values in self.values.items()}
        return Report(subjects=names, medians=medians, errors=dict(self.errors), seconds=self._seconds)


def main() -> None:
    """Run, print the table, write it into RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each load; a run takes about rounds × subjects × 6 of them"
    )
    parser.add_argument("--gateway-cmd", help="starts the gateway; {port}, {worker} and {data} are filled in")
    parser.add_argument("--gateway-key", help="the API key for it")
    parser.add_argument("--without-gateway", action="store_true")
    parser.add_argument("--keep", action="store_true", help="print only, leave RESULTS.md as it is")
    asked = parser.parse_args()
    starters: list[Starter] = [skeleton("granian"), skeleton("uvicorn")]
    if nginx_program() is not None:
        starters.append(nginx)
    if not asked.without_gateway:
        starters.append(gateway(asked.gateway_cmd, asked.gateway_key))
    with tempfile.TemporaryDirectory(prefix="museway-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # a gateway that embeds PostgreSQL runs it as another user, who must get through
        build(folder)
        worker = Fakeup(folder)
        with worker.process, running(starters, worker.port, folder) as subjects:
            bench = Bench(folder, worker, subjects, asked.seconds)
            bench.warm_up()
            for number in range(asked.rounds):
                print(f"round {number + 1} of {asked.rounds}", flush=True)
                bench.round()
            report = bench.report()
    write_report(report, rounds=asked.rounds, keep=asked.keep)


if __name__ == "__main__":
    main()
