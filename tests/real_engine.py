"""The real SGLang for tests marked `engine`: one worker for the whole run, however many xdist processes it has.

    @pytest.mark.engine
    def test_something(real_worker: str) -> None: ...      # "http://127.0.0.1:…"

MUSEWAY_TEST_ENGINE_URL names one that runs already; MUSEWAY_CACHE says where the engine is or will be installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from museway_engine.runtime.cache import default_root

__all__ = ["cache_root", "pytest_collection_modifyitems", "real_worker", "second_real_worker", "shared_real_worker"]

_KEEPER = Path(__file__).with_name("real_engine_keeper.py")

# The first test of a run pays for everybody: a start takes half a minute, an installation from nothing some minutes.
_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests marked `engine` the time that starting the engine takes. For conftest.py to import."""
    for item in items:
        if item.get_closest_marker("engine") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="session")
def real_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the run's one SGLang worker. Shared: don't abort others' requests, flush, or kill it."""
    if (given := os.environ.get("MUSEWAY_TEST_ENGINE_URL")) is not None:
        yield given.rstrip("/")
        return
    with shared_real_worker(_of_the_run(tmp_path_factory) / "engine") as url:
        yield url


@pytest.fixture(scope="module")
def second_real_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another one (about 4 GB), for tests of choosing between workers; stopped after the last module that uses it."""
    with shared_real_worker(_of_the_run(tmp_path_factory) / "engine-2") as url:
        yield url


@contextlib.contextmanager
def shared_real_worker(folder: Path) -> Generator[str]:
    """The URL of the worker that belongs to `folder`, started by whoever comes first, stopped after the last has left."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "users", fcntl.LOCK_SH):  # waits while a keeper is just ending
        with _locked(folder / "starting", fcntl.LOCK_EX):
            url = _running(folder) or _start(folder)
        yield url


def cache_root() -> Path:
    """Where the engine is or will be installed, as `museway` itself would choose."""
    return Path(os.environ["MUSEWAY_CACHE"]) if "MUSEWAY_CACHE" in os.environ else default_root()


def _of_the_run(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _running(folder: Path) -> str | None:
    """The URL that the keeper wrote, if that keeper still lives."""
    with contextlib.suppress(BlockingIOError), _locked(folder / "keeper", fcntl.LOCK_EX | fcntl.LOCK_NB):
        return None
    return (folder / "url").read_text()


def _start(folder: Path) -> str:
    log = folder / "keeper.log"
    with log.open("ab") as errors:
        # Through a shell that leaves it behind: it is not ours to wait for, since it outlives this process if another
        # test process still uses it.
        left_behind = ["sh", "-c", '"$@" &', "sh", sys.executable, str(_KEEPER), str(folder), str(cache_root())]
        with subprocess.Popen(
            left_behind, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        ) as shell:
            assert shell.stdout is not None
            url = shell.stdout.readline().decode().strip()
    if not url:
        raise RuntimeError(f"no engine: {log.read_text()[-3000:]}")
    return url


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Generator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
