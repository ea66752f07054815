"""The whole of Museway on one machine: opened in order, watched, closed in reverse. `up` and `demo` run it.

Every process in it is a child that the kernel or its guard ends when this one is gone, `kill -9` included; nothing here
needs to be cleared away afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from museway_engine.runtime.flags import worker_command
from museway_engine.runtime.install import Installation
from museway_engine.runtime.launch import Worker, free_port
from museway_engine.runtime.progress import Progress
from museway_engine.runtime.supervise import Supervisor
from museway_platform.cli.gateway_process import GatewayProcess
from museway_platform.cli.tenancy import Tenant, first_tenant
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import migrate

_READY_S = 90.0
_T = TypeVar("_T")


class Plan(Struct, frozen=True, kw_only=True):
    """What to run. `database_url` None: a PostgreSQL of our own in `data_dir`. `installation` None: the workers of
    `engine_urls`, else one worker of our own. `environment`: the settings (`MUSEWAY_*`) that the gateway gets beside
    those which are decided here."""

    data_dir: Path
    host: str
    port: int
    processes: int
    model: str
    database_url: str | None
    engine_urls: tuple[str, ...]
    installation: Installation | None
    environment: Mapping[str, str]


class Stack:
    """A stack that runs: where it listens, for whom, and what keeps it."""

    def __init__(self, *, base_url: str, tenant: Tenant, database_url: str, gateway: GatewayProcess) -> None:
        self.base_url, self.tenant, self.database_url = base_url, tenant, database_url
        self._gateway = gateway

    async def until_stopped(self) -> None:
        """Return when this program is told to stop (^C, SIGTERM), which is how a stack ends well. Raises Failure when a
        part that is not restarted has ended by itself."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._gateway.ended()
        except asyncio.CancelledError:
            task.uncancel()


@asynccontextmanager
async def running(plan: Plan, progress: Progress) -> AsyncGenerator[Stack]:
    """Everything, ready to answer. Leaving stops it all in reverse: the gateway lets its streams finish and settles.

    Raises Failure, EmbeddedPostgresError, MigrationError, PortTaken, WorkerDied or StartTimeout; then nothing is left.
    """
    logs = plan.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as parts:
        database_url = plan.database_url or await _postgres(parts, plan.data_dir, progress)
        await _step(progress, "Schema", migrate(database_url))
        tenant = await first_tenant(database_url)
        supervisor = None
        if plan.installation is not None:
            worker = _worker(plan.installation, plan.model, logs / "worker.log")
            supervisor = await parts.enter_async_context(Supervisor([worker], progress=progress))
        gateway = GatewayProcess(
            host=plan.host,
            port=plan.port,
            processes=plan.processes,
            environment=dict(plan.environment)
            | {
                "MUSEWAY_DATABASE_URL": database_url,
                "MUSEWAY_ENGINE_URLS": ",".join(plan.engine_urls if supervisor is None else supervisor.urls),
            },
            log=logs / "gateway.log",
        )
        await parts.enter_async_context(gateway)
        if supervisor is not None:
            await _unless(gateway.ended(), supervisor.ready())
        await _step(progress, "Gateway", gateway.ready(_READY_S))
        yield Stack(base_url=gateway.url, tenant=tenant, database_url=database_url, gateway=gateway)


def _worker(installation: Installation, model: str, log: Path) -> Worker:
    """On a port that is free now, with one thread, since gateway and database are beside it."""
    port = free_port()
    return Worker(worker_command(installation, port=port, served_name=model, alone=False), port=port, log=log)


async def _postgres(parts: AsyncExitStack, data_dir: Path, progress: Progress) -> str:
    server = await _step(progress, "PostgreSQL", parts.enter_async_context(EmbeddedPostgres.running(data_dir)))
    return server.dsn


async def _step(progress: Progress, name: str, work: Awaitable[_T]) -> _T:
    began = time.monotonic()
    progress.step(name)
    result = await work
    progress.done(time.monotonic() - began, None)
    return result


async def _unless(ended: Coroutine[None, None, None], work: Coroutine[None, None, None]) -> None:
    """Do `work`, unless what it needs ends before: then its Failure is raised at once."""
    watch, job = asyncio.create_task(ended), asyncio.create_task(work)  # tidy: allow task: awaited just below
    try:
        await asyncio.wait((watch, job), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (watch, job):
            task.cancel()
        results = await asyncio.gather(watch, job, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
