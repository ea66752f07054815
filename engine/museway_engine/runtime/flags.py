"""A worker's command: SGLang's flags from `flags.toml`, for this machine."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from museway_engine.runtime.install import Installation

Value = str | int | bool

_RUNTIME = Path(__file__).parent

# More threads than this were never seen to help a model that runs on a CPU at all, and were not tried.
_THREADS_MAX = 8


class Command(msgspec.Struct, frozen=True):
    """What to run: `argv`, and what to set in its environment beyond ours."""

    argv: tuple[str, ...]
    environment: dict[str, str]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    flags: dict[str, Value]
    environment: dict[str, str]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    common: _Part
    cpu: _Part
    gpu: _Part


def worker_command(
    installation: Installation,
    *,
    port: int,
    host: str = "127.0.0.1",
    served_name: str = "muse",
    alone: bool = True,
    overrides: Mapping[str, Value] | None = None,
) -> Command:
    """The command of one SGLang worker.

    `alone`: nothing else of weight runs on these cores, so a CPU worker may use half of them; False (a gateway, a
    database, another worker beside it) means one thread, because OpenMP threads that wait for each other on busy cores
    are ten times slower than one. `overrides` are SGLang flags without dashes; `True` is a
    bare flag, `False` takes one out. The worker has no authentication: `host` should be loopback or a private network.
    """
    device = installation.device
    file = msgspec.convert(tomllib.loads((_RUNTIME / "flags.toml").read_text()), _File)
    part = file.cpu if device == "cpu" else file.gpu
    flags = file.common.flags | part.flags | dict(overrides or {})
    environment = file.common.environment | part.environment
    if device == "cpu":
        environment |= {"PYTHONPATH": str(_RUNTIME), "OMP_NUM_THREADS": str(_threads(alone=alone))}
    module = "sglang_cpu.launch" if device == "cpu" else "sglang.launch_server"
    own: dict[str, Value] = {
        "model-path": str(installation.model_dir),
        "served-model-name": served_name,
        "host": host,
        "port": port,
    }
    return Command((str(installation.python), "-m", module, *_spell(own | flags)), environment)


def _threads(*, alone: bool) -> int:
    # SGLang's HTTP process and detokenizer want cores too: on two, a second thread made sixteen streams slower (89 → 73
    # tokens/s) and nothing faster.
    return max(1, min(len(os.sched_getaffinity(0)) // 2, _THREADS_MAX)) if alone else 1


def _spell(flags: Mapping[str, Value]) -> list[str]:
    words: list[str] = []
    for name, value in flags.items():
        if value is not False:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words
