"""Keeps one SGLang worker for a run's test processes. A program: python real_engine_keeper.py FOLDER CACHE

It installs what is missing, starts the worker, prints its URL, and then waits for the exclusive lock on FOLDER/users:
each test process holds that lock shared, so it comes when the last of them is gone, however it went. Nothing is counted,
so nothing is miscounted by a `kill -9`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from pathlib import Path

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.flags import worker_command
from museway_engine.runtime.install import install
from museway_engine.runtime.launch import Worker, free_port
from museway_engine.runtime.progress import Silent
from museway_engine.runtime.supervise import Supervisor


def real_worker_in(folder: Path, cache: Path) -> Worker:
    """A worker of the real thing, not started; its log in `folder`. Installs first what is missing, which takes minutes."""
    installation = install(Cache(cache), progress=Silent())
    port = free_port()
    return Worker(worker_command(installation, port=port, alone=False), port=port, log=folder / "worker.log")


async def _keep(worker: Worker, folder: Path) -> None:
    # Supervised, so that a test which kills the shared worker fails alone.
    async with Supervisor([worker]) as supervisor:
        await supervisor.ready()
        url = folder / "url"
        url.write_text(worker.url)
        print(worker.url, flush=True)
        users = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        await asyncio.to_thread(fcntl.flock, users, fcntl.LOCK_EX)
        # A newcomer now waits for the lock until this process has ended, and then finds no URL.
        url.unlink()


def main() -> None:
    folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
    alive = os.open(folder / "keeper", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    asyncio.run(_keep(real_worker_in(folder, cache), folder))


if __name__ == "__main__":
    main()
