"""Fixtures that every room's tests share; each is defined beside the thing that it starts."""

from __future__ import annotations

import pytest

from doubles.fixtures import fake_worker, fake_worker_process
from gateway import start_gateway
from postgres import database, empty_database, migrated_template, other_database, pool, postgres_dsn, postgres_server
from real_engine import pytest_collection_modifyitems, real_worker, second_real_worker
from redis_server import redis, redis_server
from traffic import wiretapped

__all__ = [
    "database",
    "empty_database",
    "fake_worker",
    "fake_worker_process",
    "migrated_template",
    "other_database",
    "pool",
    "postgres_dsn",
    "postgres_server",
    "pytest_collection_modifyitems",
    "real_worker",
    "redis",
    "redis_server",
    "second_real_worker",
    "start_gateway",
    "wiretapped",
]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop of production."""
    return "asyncio", {"use_uvloop": True}
