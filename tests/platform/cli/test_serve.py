"""`museway serve`: refuses in one line before it listens, answers, and ends on SIGTERM."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.worker_process import FakeWorker
from museway_engine.runtime.launch import free_port
from museway_platform.cli.gateway_process import readiness

from .processes import Program, data_folder

pytestmark = pytest.mark.faults


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as made:
        yield made


@pytest.fixture
def settings(fake_worker: FakeWorker) -> dict[str, str]:
    return {"MUSEWAY_ENGINE_URLS": fake_worker.url, "MUSEWAY_PORT": str(free_port())}


@pytest.fixture
def production(settings: dict[str, str], database: str) -> dict[str, str]:
    keys = {f"MUSEWAY_{name}_KEYS": secrets.token_hex(32) for name in ("SECRET", "RECEIPT")}
    return settings | keys | {"MUSEWAY_DATABASE_URL": database}


def _ready(serve: Program, settings: dict[str, str]) -> None:
    """Ask until it is, at most some 30 s."""
    url = f"http://127.0.0.1:{settings['MUSEWAY_PORT']}"
    for _ in range(300):
        if readiness(url)[0] == 200:
            return
        serve.runs_for(0.1)
    raise AssertionError(f"not ready: {readiness(url)}")


@pytest.mark.parametrize("which", ["settings", "production"])
def test_it_serves_until_it_is_told_to_stop(which: str, request: pytest.FixtureRequest, folder: Path) -> None:
    """With a database by URL it becomes the server; without one it keeps a PostgreSQL beside it."""
    chosen: dict[str, str] = request.getfixturevalue(which)
    with Program("serve", settings=chosen, folder=folder) as serve:
        _ready(serve, chosen)
        status, said = serve.end(signal.SIGTERM)
        assert status in (0, 130) and "Traceback" not in said
        assert not serve.left()


@pytest.mark.parametrize("which", ["settings", "production"])
def test_kill_9_leaves_nothing(which: str, request: pytest.FixtureRequest, folder: Path) -> None:
    chosen: dict[str, str] = request.getfixturevalue(which)
    with Program("serve", settings=chosen, folder=folder) as serve:
        _ready(serve, chosen)
        serve.end(signal.SIGKILL)
        serve.wait_gone(15.0)


def test_secrets_are_required_with_a_database_by_url(production: dict[str, str], folder: Path) -> None:
    missing = {name: value for name, value in production.items() if not name.endswith("_KEYS")}
    with Program("serve", settings=missing, folder=folder) as serve:
        _, said = serve.process.communicate(timeout=30)
        assert serve.process.returncode == 2
        assert b"MUSEWAY_SECRET_KEYS and MUSEWAY_RECEIPT_KEYS must be set" in said and said.count(b"\n") == 1


def test_it_is_the_server_itself_for_a_service_manager(production: dict[str, str], folder: Path) -> None:
    with Program("serve", settings=production, folder=folder) as serve:
        _ready(serve, production)
        shown = subprocess.run(
            ["ps", "-o", "args=", "-p", str(serve.process.pid)], capture_output=True, text=True, check=True
        )
        assert "granian" in shown.stdout
