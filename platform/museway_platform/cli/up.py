"""`museway up`: everything on this machine, in the foreground, until ^C."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.install import Installation, install
from museway_platform.cli import stack
from museway_platform.cli.lock import data_directory
from museway_platform.cli.ports import require_free
from museway_platform.cli.progress import Steps
from museway_platform.cli.prompt import Parser, answer, complain
from museway_platform.cli.show import write_line
from museway_platform.settings import Settings

_ABOUT = """\
Start what is missing on this machine and keep it up: the engine's environment and model (once), PostgreSQL unless
MUSEWAY_DATABASE_URL names one, an SGLang worker unless MUSEWAY_ENGINE_URLS names some, and the gateway. The first start
makes an organization `Default` with a key and a trial credit of $1,000; each start prints that key with a new secret.
"""


class Ready(Struct, frozen=True):
    """The one line of `up --json`. `base_url` has no path: routes begin with /v1."""

    base_url: str
    portal_url: str
    key: str


def main(argv: Sequence[str]) -> int:
    parser = Parser("up", _ABOUT)
    parser.add_argument("--json", action="store_true", help="one line of JSON when ready, and nothing else")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    settings = Settings.load()
    require_free(settings.host, settings.port)
    steps = Steps()
    with data_directory(settings.data_dir):
        installation = needed(settings, steps)
        try:
            asyncio.run(_stay_up(plan(settings, installation), steps, as_json=args.json))
        finally:
            steps.abandon()
    return 0


def needed(settings: Settings, steps: Steps) -> Installation | None:
    """The engine's environment and model, made where they are missing: minutes, the first time on a machine. None where
    workers are named, so that none is started here."""
    if settings.engine_urls or settings.models is not None:
        return None
    return install(Cache(settings.cache), model=settings.engine_model, progress=steps)


def plan(settings: Settings, installation: Installation | None) -> stack.Plan:
    return stack.Plan(
        data_dir=settings.data_dir,
        host=settings.host,
        port=settings.port,
        processes=settings.processes,
        model=settings.model,
        database_url=None if settings.database_url is None else settings.database_url.reveal(),
        engine_urls=settings.engine_urls,
        installation=installation,
        environment=settings.environment(),
    )


async def _stay_up(what: stack.Plan, steps: Steps, *, as_json: bool) -> None:
    async with stack.running(what, steps) as running:
        _announce(running, what.data_dir, as_json=as_json)
        await running.until_stopped()
        complain("Stopping: running streams may finish …")


def _announce(running: stack.Stack, data_dir: Path, *, as_json: bool) -> None:
    ready = Ready(base_url=running.base_url, portal_url=f"{running.base_url}/", key=running.tenant.secret)
    if as_json:
        write_line(msgspec.json.encode(ready).decode())
        return
    write_line(
        f"\nMuseway is up.\n"
        f"  base URL   {ready.base_url}   (for OpenAI's clients: {ready.base_url}/v1)\n"
        f"  portal     {ready.portal_url}\n"
        f"  key        {ready.key}   (shown now only; {running.tenant.key})\n"
        f"  data       {data_dir}\n\n"
        f"  export MUSEWAY_BASE_URL={ready.base_url} MUSEWAY_API_KEY={ready.key}\n\n"
        f"^C stops it."
    )
    sys.stdout.flush()
