"""Fixtures for every test that needs a worker: `from doubles.fixtures import fake_worker` in a `conftest.py`."""

from collections.abc import Iterator

import pytest

from doubles.worker_process import FakeWorker

__all__ = ["fake_worker", "fake_worker_process"]


@pytest.fixture(scope="session")
def fake_worker_process() -> Iterator[FakeWorker]:
    """One process for the session (each xdist worker has its own)."""
    with FakeWorker() as worker:
        yield worker


@pytest.fixture
def fake_worker(fake_worker_process: FakeWorker) -> FakeWorker:
    """The session's fake worker, with an empty book and no script. A test that kills a worker starts its own."""
    fake_worker_process.reset()
    return fake_worker_process
