"""The model's directory: converted from a pinned source into the cache, or one that the operator brings."""

from __future__ import annotations

import os
from pathlib import Path

from museway_engine.runtime import manifest
from museway_engine.runtime.cache import Cache, fingerprint, remove
from museway_engine.runtime.progress import Progress
from museway_engine.runtime.step import InstallFailed, Step

CONVERTER = Path(__file__).with_name("make_model.py")

# What the converter knows (a test compares), and about how many bytes making it puts on the disk.
MODELS: dict[str, int] = {"smollm2-135m": 370_000_000, "qwen25-coder-0.5b": 1_500_000_000}


def model_directory(
    cache: Cache, model: str, *, python: Path, progress: Progress, converter: Path = CONVERTER, thorough: bool = False
) -> Path:
    """The directory of `model`: a name of MODELS, made first if it is missing or damaged, or a path that has a config.json.

    `python` is the engine environment's. Blocks; about a minute where it must be made. Raises InstallFailed. A directory
    that the operator brings is taken as it is. Nothing is ever fetched from a model hub.
    """
    if "/" in model:
        return _brought(Path(model), cache)
    if model not in MODELS:
        known = ", ".join(MODELS)
        raise InstallFailed(
            "Choosing the model", f"no model is named {model!r}: give one of {known}, or a path", cache.log("model")
        )
    # The converter pins the source by SHA-256, so its own text stands for both: an edit makes a new entry.
    home = cache.model(model, fingerprint(model, converter.read_bytes()))
    if home.is_dir() and manifest.damage(home, thorough=thorough) is None:
        return home
    purpose = f"makes the model {model}"
    with cache.locked(f"model-{home.name}", purpose=purpose, progress=progress) as lock:
        if not home.is_dir() or manifest.damage(home, thorough=thorough) is not None:
            _make(cache, home, model, argv=[str(python), str(converter), model], lock=lock, progress=progress)
    return home


def _brought(path: Path, cache: Cache) -> Path:
    if not (path / "config.json").is_file():
        raise InstallFailed("Choosing the model", f"{path} has no config.json", cache.log("model"))
    return path.resolve()


def _make(cache: Cache, home: Path, model: str, *, argv: list[str], lock: int, progress: Progress) -> None:
    """Build beside the final place and rename: a reader sees the old directory or the whole new one."""
    log = cache.log(f"model-{home.name}")
    work = home.with_name(f"{home.name}.building")
    remove(work)
    work.mkdir(parents=True)
    step = Step(name=f"Making the model {model}", log=log, lock=lock, grows=(work,), total=MODELS[model])
    # The converter asks the result a question and fails if it has forgotten Paris.
    threads = str(min(2, len(os.sched_getaffinity(0))))
    step.run(
        [*argv, str(work / "model"), "--threads", threads],
        progress=progress,
        environment={"TMPDIR": str(work), "OMP_NUM_THREADS": threads},
    )
    manifest.write(work / "model")
    if home.exists():
        home.rename(work / "damaged")
    (work / "model").rename(home)
    remove(work)
