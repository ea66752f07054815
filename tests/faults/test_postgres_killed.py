"""kill -9 of PostgreSQL: known keys are served on, unknown ones are told to wait, and what happened meanwhile is on the bill
when it is back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from doubles.worker_process import FakeWorker, Options
from faults.rest import gauges
from faults.scale import CHAOS, drawn, scaled
from faults.siege import Siege
from gateway import Gateway
from museway_platform.database import cluster
from museway_platform.database.embedded import EmbeddedPostgres, remove
from museway_platform.database.migrate import migrate
from museway_platform.identity import keys

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 1800))]

KILLS = scaled(2, 25)
KNOWN_KEYS_S = 60


class Postgres:
    """A server of one's own, durable: what it has committed is there after its death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = EmbeddedPostgres(folder)
        self.dsn = self._server.start()

    @property
    def pid(self) -> int:
        found = cluster.postmaster(self.folder / "pgdata")
        assert found is not None
        return found.pid

    def kill(self) -> None:
        """The postmaster; its children see it and end."""
        os.kill(self.pid, signal.SIGKILL)

    def start(self) -> None:
        """Again, after `kill`, at the same address."""
        self.stop()
        assert self._server.start() == self.dsn

    def stop(self) -> None:
        self._server.stop()


@contextmanager
def own_postgres() -> Generator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="museway-faults-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop()
        remove(folder)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with own_postgres() as server:
        asyncio.run(migrate(server.dsn))
        yield server


@pytest.fixture
def siege(postgres: Postgres) -> Iterator[Siege]:
    folder = Path(tempfile.mkdtemp(prefix="museway-gateway-"))
    with FakeWorker(Options(delay_ms=2)) as worker:
        gateway = Gateway(postgres.dsn, [worker.url], folder, {})
        try:
            yield Siege(gateway.start(), worker)
        finally:
            gateway.close()
            shutil.rmtree(folder)


def unknown_key(siege: Siege) -> httpx2.Response:
    headers = {"authorization": f"Bearer {keys.mint('live')}"}
    return httpx2.get(f"{siege.gateway.direct_url}/v1/models", headers=headers, timeout=10)


def test_killed_under_load(siege: Siege, postgres: Postgres) -> None:
    """No client notices."""
    chance = drawn("PostgreSQL killed")
    for _ in range(KILLS):
        with siege.mixed(120, seed=chance.randrange(1 << 30), hangups=16) as load:
            load.wait_for(answers=chance.randrange(1, 60))
            postgres.kill()
            answer = unknown_key(siege)
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "directory_unavailable"
            assert int(answer.headers["retry-after"]) > 0
        siege.serves()
        assert gauges(siege.gateway)["museway_journal_pending_records"] > 0, "PostgreSQL was not away"
        postgres.start()
        verdict = siege.judge()
        assert len(verdict.delivered) == 120
        assert unknown_key(siege).status_code == 401


def test_a_connection_of_its_is_killed(siege: Siege, postgres: Postgres) -> None:
    """PostgreSQL ends all connections and recovers by itself: a few seconds at most, and nothing is written twice."""
    with siege.mixed(scaled(120, 1200), seed=drawn("backend killed").randrange(1 << 30)) as load:
        load.wait_for(answers=20)
        for backend in backends(postgres.pid):
            os.kill(backend, signal.SIGKILL)
            break
    siege.judge()


def backends(postmaster: int) -> list[int]:
    """Its processes that serve a client."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_text(errors="replace") for pid in children}
    found = [pid for pid, name in names.items() if "idle" in name or "museway" in name.split(":", 1)[-1]]
    assert found, names
    return found


def test_known_keys_wait_too_when_it_is_away_for_long(siege: Siege, postgres: Postgres) -> None:
    """A key that may have been revoked a minute ago is not taken any more; it is again when it can be asked."""
    postgres.kill()
    killed = time.monotonic()
    if CHAOS:
        while time.monotonic() < killed + KNOWN_KEYS_S - 5:
            siege.serves()
        siege.gateway.until(lambda: status_of_a_known_key(siege) == 503, within_s=10)
    postgres.start()
    siege.gateway.until(lambda: status_of_a_known_key(siege) == 200, within_s=20)
    siege.judge()


def status_of_a_known_key(siege: Siege) -> int:
    headers = {"authorization": f"Bearer {siege.secret}"}
    return httpx2.get(f"{siege.gateway.direct_url}/v1/models", headers=headers, timeout=10).status_code
