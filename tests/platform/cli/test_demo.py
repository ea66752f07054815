"""`museway demo` with a scripted worker: what it shows, what it proves, and that it leaves neither process nor folder.

The demo with a real model is `tests/e2e_demo`.
"""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.worker_process import Behaviour, FakeWorker
from traffic import Checked

from .processes import Program, data_folder

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("wiretapped")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo makes its data directory."""
    with data_folder() as made:
        made.mkdir(mode=0o711)
        yield made


def _demo(worker: FakeWorker, folder: Path, *arguments: str) -> Program:
    settings = {"MUSEWAY_ENGINE_URLS": worker.url, "TMPDIR": str(folder)}
    return Program("demo", *arguments, settings=settings, folder=folder)


def _rows(out: str) -> dict[str, list[str]]:
    """The lines of the tables by their first word, split into cells."""
    lines = [line for line in out.splitlines() if re.search(r"\d+\.\d+ s +\d+\.\d$", line)]
    return {line.split("  ")[0]: re.split(r" {2,}", line.strip()) for line in lines}


def test_every_mode_is_asked_priced_and_proved(fake_worker: FakeWorker, folder: Path, wiretapped: Checked) -> None:
    before = wiretapped.bodies
    with _demo(fake_worker, folder) as demo:
        out, said = (text.decode() for text in demo.process.communicate(timeout=120))
        assert demo.process.returncode == 0, said
        assert wiretapped.bodies >= before + 6, "what the demo shows passed the schemas"
        rows = _rows(out)
        modes = [re.split("[ →]", name)[0] for name in rows]
        assert [mode for mode in ("instant", "thinking", "contemplating", "auto") if mode not in modes] == []
        contemplating = rows["contemplating"]
        assert int(contemplating[1]) == 4 and contemplating[6].startswith("$0.0")
        assert re.search(r"\d,\d{3} of \d,\d{3} input tokens came from the cache: saved \$0\.\d+", out)
        assert re.search(
            r"usage \$0\.\d+ - given back \$0\.00 = credit used \$0\.\d+ \+ receivable \$0\.00\nreconciled", out
        )
        assert "agent 3" in out and "chose " in out
        assert not demo.left() and not list(folder.iterdir())


def test_its_sums_are_those_of_its_table(fake_worker: FakeWorker, folder: Path) -> None:
    with _demo(fake_worker, folder) as demo:
        out = demo.process.communicate(timeout=120)[0].decode()
    asked = re.findall(r"\$0\.(\d+) +\d+\.\d+ s +\d+\.\d$", out, re.MULTILINE)
    usage = re.search(r"usage \$0\.(\d+)", out)
    assert usage is not None and len(asked) == 6
    assert sum(int(amount.ljust(9, "0")) for amount in asked) == int(usage[1].ljust(9, "0"))


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupt_leaves_nothing(fake_worker: FakeWorker, folder: Path, seed: int) -> None:
    """At a random moment; the whole demo takes several seconds, since the worker takes its time."""
    chance = random.Random(seed)
    fake_worker.script(Behaviour(delay_ms=20))
    with _demo(fake_worker, folder) as demo:
        demo.runs_for(chance.uniform(0.3, 2.0))
        begun, number = list(folder.iterdir()), chance.choice((signal.SIGINT, signal.SIGTERM))
        status, said = demo.end(number)
        # Minus the signal: nothing had begun, or all had been done; it was Python itself that was there.
        assert status in (130, -number) and ("Traceback" not in said or not begun), said
        assert not demo.left() and not list(folder.iterdir())


def test_kept_up_it_works_until_interrupted(fake_worker: FakeWorker, folder: Path) -> None:
    with _demo(fake_worker, folder, "--keep") as demo:
        line = ""
        while not line.startswith("Still up"):
            line = demo.line()
        assert demo.end(signal.SIGINT)[0] == 0
        assert not demo.left() and not list(folder.iterdir())


def test_a_worker_that_fails_is_said_and_everything_stops(fake_worker: FakeWorker, folder: Path) -> None:
    fake_worker.pause()
    try:
        with _demo(fake_worker, folder) as demo:
            demo.runs_for(1.0)
            status, _ = demo.end(signal.SIGTERM)
            assert status == 130 and not demo.left()
    finally:
        fake_worker.resume()
