"""Steady load for a while: memory and descriptors stay where they are."""

from __future__ import annotations

import itertools
import time

import pytest

from bench.mix import planned
from doubles.worker_process import FakeWorker
from faults.rest import held, rss_bytes, wait_at_rest, worker_pid
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import StartGateway

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 1800))]

SECONDS = scaled(12.0, 1200.0)
WARM_S = scaled(6.0, 120.0)
CLIENTS = 12
MIB = 1 << 20
JOURNAL_FILES = 2
"""The journal may have a segment that it ends and one that it begins open beside the one it had."""
GROWS = scaled(0.10, 0.05)
"""By how much memory may differ from what it was when warm. In a few seconds caches that fill once are a larger part of it."""


def test_steady_load(start_gateway: StartGateway) -> None:
    seed = drawn("soak").randrange(1 << 30)
    endless = itertools.chain.from_iterable(
        planned(2000, 200, seed=seed + number, model="muse") for number in itertools.count()
    )
    with FakeWorker() as worker:
        siege = Siege(start_gateway([worker.url]), worker)
        pid = worker_pid(siege.gateway)
        seen: list[tuple[float, int]] = []
        with siege.load(endless, concurrency=CLIENTS) as load:
            began = time.monotonic()
            while (now := time.monotonic() - began) < WARM_S + SECONDS:
                seen.append((now, rss_bytes(pid)))
                time.sleep(0.5)  # tidy: allow sleep: the pace of the measurement
            load.enough()
        warm = [size for at, size in seen if WARM_S <= at < WARM_S + SECONDS * 0.25]
        last = [size for at, size in seen if at >= WARM_S + SECONDS * 0.75]
        grown = sorted(last)[len(last) // 2] / sorted(warm)[len(warm) // 2] - 1
        print(f"{len(load.delivered)} requests, {sorted(last)[len(last) // 2] / MIB:.1f} MiB, {grown:+.1%} since warm")
        assert abs(grown) < GROWS
        wait_at_rest(siege.gateway)
        siege.gateway.until(lambda: held(siege.gateway).clients == 0, within_s=20)
        siege.gateway.until(lambda: held(siege.gateway).files <= siege.held.files, within_s=20)
        siege.judge()
