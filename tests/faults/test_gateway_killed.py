"""kill -9 of the gateway, anywhere: what had left is billed, what had not is not, and nothing stays held.

The whole process group, or only the process that serves (its parent starts another, as an out-of-memory killer sees it);
at random moments under a mixed load, and at named points: the process is stopped again and again until its slots show the
state that is wanted, then killed as it stands.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doubles.worker_process import Behaviour, FakeWorker, Options
from faults.rest import stop, worker_pid
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import Gateway, StartGateway
from museway_billing.journal.slots import SlotImage, SlotState, read_slots

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]

ROUNDS = scaled(1, 20)
KILLS_A_ROUND = scaled(4, 10)
REQUESTS = 90
HANGUPS = 12
RESPAWN_S = 7.0
"""A second death within 5.5 s of a new process is a loop to granian, which then ends, for its own supervisor to see."""
POINT_S = scaled(20.0, 90.0)


@pytest.fixture
def siege(start_gateway: StartGateway) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=2)) as worker:
        yield Siege(start_gateway([worker.url], recovery_interval_s="1", drain_s="5"), worker)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_at_random(siege: Siege, number: int) -> None:
    chance = drawn(f"killed at random {number}")
    interrupted, respawned = 0, -RESPAWN_S
    for _ in range(KILLS_A_ROUND):
        seed, answers, pause_s = chance.randrange(1 << 30), chance.randrange(1, REQUESTS // 2), chance.random() * 0.1
        with siege.mixed(REQUESTS, seed=seed, hangups=HANGUPS) as load:
            load.wait_for(answers=answers)
            time.sleep(pause_s)  # tidy: allow sleep: the moment of the fault, drawn
            load.enough()
            if chance.random() < 0.4 and time.monotonic() - respawned > RESPAWN_S:
                kill_one(siege.gateway)
                respawned = time.monotonic()
            else:
                siege.gateway.kill()
                siege.gateway.start()
        interrupted += siege.judge(killed=True).states["interrupted"]
    assert interrupted, "no call ran when the gateway was killed: this tested nothing"


def kill_one(gateway: Gateway) -> None:
    """Its parent starts another one."""
    killed = worker_pid(gateway)
    os.kill(killed, signal.SIGKILL)
    worker_pid(gateway, other_than=killed)
    gateway.until_ready()


Point = Callable[[SlotImage], bool]
NOTHING_SENT = "slot without a call"
POINTS: dict[str, Point] = {
    "dispatched, nothing came": lambda slot: slot.state is SlotState.DISPATCHED and slot.output + slot.reasoning == 0,
    "tokens on their way": lambda slot: slot.state is SlotState.DISPATCHED and slot.output + slot.reasoning > 0,
    "durable, hold not settled": lambda slot: slot.state is SlotState.RECORDED,
    NOTHING_SENT: lambda slot: slot.state is SlotState.OPEN,
}


@pytest.mark.parametrize("time_", range(scaled(1, 5)))
@pytest.mark.parametrize("point", scaled(list(POINTS)[:3], list(POINTS)))
def test_killed_at_a_point(siege: Siege, point: str, time_: int) -> None:
    chance = drawn(f"killed at {point} {time_}")
    siege.worker.script(Behaviour(first_delay_ms=20))
    with siege.mixed(20_000, seed=chance.randrange(1 << 30), concurrency=48) as load:
        load.wait_for(answers=5)
        stopped = stop_where(worker_pid(siege.gateway), siege.gateway.data_dir / "journal", POINTS[point], chance)
        load.enough()
        siege.gateway.kill()
    assert stopped, f"no slot was seen {point!r} within {POINT_S:g} s"
    siege.gateway.start()
    recorded = {record.id for record in siege.judge(killed=True).records}
    assert stopped.isdisjoint(recorded) if point == NOTHING_SENT else stopped <= recorded


def stop_where(pid: int, journals: Path, point: Point, chance: random.Random) -> set[str]:
    """Stop the process where its slots show `point`, and leave it stopped; the records of the calls that were there."""
    (slots,) = [folder / "slots" for folder in journals.glob(f"gateway-{pid}-*")]
    deadline = time.monotonic() + POINT_S
    while time.monotonic() < deadline:
        stop(pid)
        found = {slot.identity.record_id for slot in read_slots(slots) if slot.identity is not None and point(slot)}
        if found:
            return found
        os.kill(pid, signal.SIGCONT)
        time.sleep(chance.random() * 0.003)  # tidy: allow sleep: the moment of the next look, drawn
    return set()
