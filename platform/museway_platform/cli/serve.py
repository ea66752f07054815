"""`museway serve`: the gateway and nothing else. This process becomes the server, so that signals reach it directly."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from museway_platform.cli.gateway_process import granian_command
from museway_platform.cli.ports import require_free
from museway_platform.cli.prompt import Parser, answer
from museway_platform.settings import Settings

_ABOUT = """\
The gateway alone, configured by MUSEWAY_* and museway.toml. On SIGTERM running streams finish and are settled. It never
migrates the database (`museway migrate` does) and starts no worker (MUSEWAY_ENGINE_URLS names them).
"""


def main(argv: Sequence[str]) -> int:
    return answer(Parser("serve", _ABOUT), argv, _run)


def _run(_: argparse.Namespace) -> int:
    # Loaded here for its complaints alone: one line and status 2 now, rather than a traceback in each of the workers.
    settings = Settings.load()
    require_free(settings.host, settings.port)
    command = granian_command(host=settings.host, port=settings.port, processes=settings.processes)
    os.execv(command[0], command)
