"""`museway worker`: one SGLang worker in the foreground, restarted when it dies."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.flags import worker_command
from museway_engine.runtime.install import install
from museway_engine.runtime.launch import Worker
from museway_engine.runtime.supervise import Change, State, Supervisor
from museway_platform.cli.progress import Steps
from museway_platform.cli.prompt import Parser, answer, complain
from museway_platform.cli.show import write_line
from museway_platform.settings import Settings

_ABOUT = """\
One SGLang worker with the flags that suit this machine (GPU or CPU), installed first where that is missing. A worker has
no authentication of its own: let only gateways reach its port.
"""


def main(argv: Sequence[str]) -> int:
    parser = Parser("worker", _ABOUT).with_json()
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=30000, help="port to listen on (default: %(default)s)")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings, steps = Settings.load(), Steps()
    installation = install(Cache(settings.cache), model=settings.engine_model, progress=steps)
    command = worker_command(installation, port=args.port, host=args.host, served_name=settings.model)
    log = settings.data_dir / "logs" / f"worker-{args.port}.log"
    worker = Worker(command, host=args.host, port=args.port, log=log)
    try:
        asyncio.run(_keep(worker, steps, as_json=args.json))
    finally:
        steps.abandon()
    return 0


async def _keep(worker: Worker, steps: Steps, *, as_json: bool) -> None:
    """Until cancelled. Raises what kept it from its first start."""
    async with Supervisor([worker], on_change=_tell, progress=steps) as supervisor:
        await supervisor.ready()
        write_line(f'{{"url":"{worker.url}"}}' if as_json else f"Worker ready on {worker.url}; its log is {worker.log}")
        await asyncio.Event().wait()


def _tell(change: Change) -> None:
    if change.state in (State.WAITING, State.UNHEALTHY, State.FAILED):
        complain(f"worker {change.state}: {change.reason}")
