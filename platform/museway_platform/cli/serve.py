"""`museway serve`: the gateway and nothing else. With a database by URL this process becomes the server itself."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence

from museway_platform.cli.gateway_process import GatewayProcess, granian_command
from museway_platform.cli.lock import data_directory
from museway_platform.cli.ports import require_free
from museway_platform.cli.prompt import Parser, answer, complain
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import migrate
from museway_platform.settings import Settings

_ABOUT = """\
The gateway alone, configured by MUSEWAY_* and museway.toml; MUSEWAY_ENGINE_URLS names its workers. On SIGTERM running
streams finish and are settled. The database is MUSEWAY_DATABASE_URL, which `museway migrate` brings to head; without one
the data directory's own PostgreSQL runs beside it.
"""


def main(argv: Sequence[str]) -> int:
    return answer(Parser("serve", _ABOUT), argv, _run)


def _run(_: argparse.Namespace) -> int:
    settings = Settings.load()
    settings.with_secrets()  # every complaint comes now, as one line, and not from each of the workers
    require_free(settings.host, settings.port)
    if settings.database_url is None:
        with data_directory(settings.data_dir):
            asyncio.run(_beside_own_database(settings))
        return 0
    command = granian_command(host=settings.host, port=settings.port, processes=settings.processes, settings=settings)
    # Signals then reach the server directly, and a service manager watches the right process.
    os.execv(command[0], command)


async def _beside_own_database(settings: Settings) -> None:
    """Until cancelled, or the gateway ends (Failure)."""
    async with EmbeddedPostgres.running(settings.data_dir) as postgres:
        await migrate(postgres.dsn)
        gateway = GatewayProcess(
            host=settings.host,
            port=settings.port,
            processes=settings.processes,
            environment=settings.environment() | {"MUSEWAY_DATABASE_URL": postgres.dsn},
            log=settings.data_dir / "logs" / "gateway.log",
        )
        async with gateway:
            complain(f"serving on {gateway.url}; the log is {gateway.log}")
            await gateway.ended()
