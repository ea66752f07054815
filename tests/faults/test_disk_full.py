"""A full disk under the journal: 503 at the door, whoever is inside is finished and billed, and room is enough to go on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.worker_process import FakeWorker, Options
from faults.rest import wait_at_rest
from faults.scale import drawn, scaled
from faults.siege import Siege
from gateway import Gateway

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 900))]

DISK_MIB = 24
FULL = re.compile(r"^status 503: .*journal_full|^error event: .*'journal_full'")
"""At the door; or, of a request of several calls, at the next call's door. What it was charged is given back then."""
ROUNDS = scaled(1, 10)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system of its own."""
    folder = Path(tempfile.mkdtemp(prefix="museway-disk-"))
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        folder.rmdir()
        # tidy: allow skip: nobody else may make a file system; test_journal.py fills a file's room without one
        pytest.skip("only root may mount a file system to fill it")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def siege(database: str, disk: Path, tmp_path: Path) -> Iterator[Siege]:
    with FakeWorker(Options(delay_ms=2)) as worker:
        gateway = Gateway(database, [worker.url], disk, {"MUSEWAY_JOURNAL_SEGMENT_BYTES": str(64 << 10)})
        gateway.log = tmp_path / "gateway.log"
        try:
            yield Siege(gateway.start(), worker)
        finally:
            (disk / "ballast").unlink(missing_ok=True)
            gateway.close()


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("ab") as ballast:
        try:
            while ballast.write(b"\0" * 65536):
                ballast.flush()
        except OSError:
            pass


def test_a_full_disk(siege: Siege, disk: Path) -> None:
    chance = drawn("full disk")
    for _ in range(ROUNDS):
        refused = 0
        for _ in range(40):
            fill(disk)
            with siege.mixed(60, seed=chance.randrange(1 << 30), hangups=8) as load:
                pass
            refused = sum(FULL.search(one.problem) is not None for one in load.delivered)
            if refused:
                break
        assert refused, "the disk never filled"
        wait_at_rest(siege.gateway)
        (disk / "ballast").unlink()
        siege.serves()
        verdict = siege.judge(forgiven=[FULL])
        refusals = {one.request_id for one in verdict.delivered if one.problem}
        charged = [record for record in verdict.records if record.amount_nano_usd > record.credited_nano_usd]
        assert refusals.isdisjoint(record.request_id for record in charged)


def test_a_start_on_a_full_disk_takes_nothing(siege: Siege, disk: Path) -> None:
    """Killed while the disk is full: what its slots hold waits for room, and is then on the bill."""
    with siege.mixed(60, seed=drawn("full at the start").randrange(1 << 30)) as load:
        load.wait_for(answers=10)
        load.enough()
        siege.gateway.kill()
    fill(disk)
    with pytest.raises(AssertionError, match="not ready"):
        siege.gateway.start()
    (disk / "ballast").unlink()
    siege.gateway.start()
    siege.judge(killed=True)
