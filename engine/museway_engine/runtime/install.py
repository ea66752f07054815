"""From nothing to what a worker needs: the engine's environment and a model."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.device import Device, device_here
from museway_engine.runtime.environment import RECIPES, engine_environment
from museway_engine.runtime.model import model_directory
from museway_engine.runtime.progress import Progress
from museway_engine.runtime.step import InstallFailed

__all__ = ["InstallFailed", "Installation", "install"]


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What can be launched: the engine environment's Python, the model's directory, and what they run on."""

    python: Path
    model_dir: Path
    model: str
    device: Device


def install(
    cache: Cache,
    *,
    model: str = "smollm2-135m",
    progress: Progress,
    device: Device | None = None,
    thorough: bool = False,
) -> Installation:
    """Make whatever is missing in `cache` and say where it is. Quick when nothing is.

    `model`: a name of `model.MODELS` or a path to a directory with a config.json. `device`: found out if None.
    `thorough` hashes every file of the model instead of believing size and time. Blocks (minutes the first time) and
    polls locks: call it before the event loop, in the main thread, where ^C interrupts it. Interrupted or killed at any
    point it leaves no process behind, and the next call takes up from there. Raises InstallFailed, one line for a person
    with the log's name in it. Does not need root, does not remove older entries.
    """
    if sys.platform != "linux":
        reason = f"SGLang and the guard of its processes need Linux, this is {sys.platform}"
        raise InstallFailed("Choosing the engine", reason, cache.log("engine"))
    on = device or device_here()
    python = engine_environment(cache, RECIPES[on], progress=progress)
    model_dir = model_directory(cache, model, python=python, progress=progress, thorough=thorough)
    return Installation(python=python, model_dir=model_dir, model=model, device=on)
