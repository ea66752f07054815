"""`museway engine install`: the engine's own environment and model, ahead of the first start."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec import Struct

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.install import install
from museway_platform.cli.progress import Steps
from museway_platform.cli.prompt import Parser, answer
from museway_platform.cli.show import show
from museway_platform.settings import Settings


class Installed(Struct, frozen=True, kw_only=True):
    """What a worker can be started from."""

    python: str
    model: str
    model_directory: str
    device: str


def main(argv: Sequence[str]) -> int:
    parser = Parser("engine", "The engine's own environment (SGLang) and model, kept in MUSEWAY_CACHE.")
    verb = parser.actions().add("install", _install, "make what is missing; quick when nothing is")
    verb.add_argument("--model", help="a built-in name or a directory with weights (default: MUSEWAY_ENGINE_MODEL)")
    return answer(parser, argv, lambda args: args.run(args))


def _install(args: argparse.Namespace) -> int:
    settings, steps = Settings.load(), Steps()
    try:
        made = install(Cache(settings.cache), model=args.model or settings.engine_model, progress=steps)
    finally:
        steps.abandon()
    result = Installed(
        python=str(made.python), model=made.model, model_directory=str(made.model_dir), device=str(made.device)
    )
    show(result, as_json=args.json)
    return 0
