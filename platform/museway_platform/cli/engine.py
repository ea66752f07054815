"""`museway engine install`: the engine's own environment and model, ahead of the first start."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from msgspec import Struct

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.device import Device, device_here
from museway_engine.runtime.environment import RECIPES, engine_environment
from museway_engine.runtime.install import install
from museway_platform.cli.progress import Steps
from museway_platform.cli.prompt import Parser, answer
from museway_platform.cli.show import show
from museway_platform.settings import Settings


class Installed(Struct, frozen=True, kw_only=True):
    """What a worker can be started from. No model with --no-model."""

    python: str
    device: str
    model: str | None = None
    model_directory: str | None = None


def main(argv: Sequence[str]) -> int:
    parser = Parser("engine", "The engine's own environment (SGLang) and model, kept in MUSEWAY_CACHE.")
    verb = parser.actions().add("install", _install, "make what is missing; quick when nothing is")
    verb.add_argument("--model", help="a built-in name or a directory with weights (default: MUSEWAY_ENGINE_MODEL)")
    verb.add_argument("--device", choices=tuple(RECIPES), help="for a machine with this (default: this machine)")
    verb.add_argument(
        "--no-model", action="store_true", help="the environment alone: an image whose weights are mounted"
    )
    return answer(parser, argv, lambda args: args.run(args))


def _install(args: argparse.Namespace) -> int:
    settings, steps = Settings.load(), Steps()
    cache = Cache(settings.cache)
    try:
        if args.no_model:
            device: Device = args.device or device_here()
            python = engine_environment(cache, RECIPES[device], progress=steps)
            result = Installed(python=str(python), device=device)
        else:
            made = install(cache, model=args.model or settings.engine_model, progress=steps, device=args.device)
            result = Installed(
                python=str(made.python), device=made.device, model=made.model, model_directory=str(made.model_dir)
            )
    finally:
        steps.abandon()
    show(result, as_json=args.json)
    return 0
