"""The engine's own virtual environment. SGLang pins a hundred packages; none of them may meet ours."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from museway_engine.runtime.cache import Cache, fingerprint, remove, size_of
from museway_engine.runtime.device import Device
from museway_engine.runtime.progress import Progress
from museway_engine.runtime.step import InstallFailed, Step

_RUNTIME = Path(__file__).parent
_COMPLETE = "complete"

# PyPI's torch for Linux is a CUDA build. The CPU builds are versions of their own (`+cpu`) on PyTorch's index, which we
# ask only if pip, as it is configured here, does not know one: a mirror or a folder of wheels comes first.
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

_PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How an environment is made: all of this is in its key, but for the two sizes."""

    requirements: Path
    closed: bool  # the file is a whole freeze: install it without dependencies
    cpu_torch: bool  # its torch pin must come as the CPU build
    proof: str  # Python code that fails if the result is of no use
    python_path: str = ""  # PYTHONPATH for the proof
    size_bytes: int | None = None  # about what it comes to, pip's working copies included; None: unknown
    free_bytes: int = 0  # what must be free on the disk before we begin


RECIPES: dict[Device, Recipe] = {
    # --no-deps can't be written in a requirements file, and without it pip fetches CUDA packages: gigabytes that would
    # not even import beside a CPU torch.
    "cpu": Recipe(
        requirements=_RUNTIME / "requirements-cpu.txt",
        closed=True,
        cpu_torch=True,
        proof="from sglang_cpu import launch; import sglang, torch; print(sglang.__version__, torch.__version__)",
        python_path=str(_RUNTIME),
        size_bytes=3_100_000_000,
        free_bytes=5_000_000_000,
    ),
    "gpu": Recipe(
        requirements=_RUNTIME / "requirements-gpu.txt",
        closed=False,
        cpu_torch=False,
        proof="import sglang, torch; assert torch.cuda.is_available(); print(sglang.__version__, torch.__version__)",
        free_bytes=25_000_000_000,
    ),
}


class _Complete(msgspec.Struct, frozen=True):
    """What `complete` says: for a person who finds it."""

    python: str
    size_bytes: int
    seconds: float
    made: str


def engine_environment(cache: Cache, recipe: Recipe, *, progress: Progress) -> Path:
    """The Python of the engine's environment, made first if it is not there. Blocks; minutes where it must be made.

    Raises InstallFailed. Safe to interrupt and to run several times at once: one makes it, the others wait and are told.
    """
    base, version = _interpreter(cache)
    how = f"closed={recipe.closed} cpu_torch={recipe.cpu_torch}"
    home = cache.engine(fingerprint(_pins(recipe.requirements), how, version, platform.machine()))
    python = home / "bin" / "python"
    if _complete(home):
        return python
    purpose = "installs the engine's packages"
    with cache.locked(f"engine-{home.name}", purpose=purpose, progress=progress) as lock:
        if not _complete(home):
            _make(cache, home, recipe, base=base, lock=lock, progress=progress)
    return python


def _complete(home: Path) -> bool:
    # bin/python is a link to the interpreter the environment was made with, which an upgrade of the system may remove.
    return (home / _COMPLETE).is_file() and os.access(home / "bin" / "python", os.X_OK)


def _interpreter(cache: Cache) -> tuple[str, str]:
    """The interpreter to build on and its version: 3.11, which the freeze was made for, else the one that runs this."""
    here = getattr(sys, "_base_executable", sys.executable)
    assert isinstance(here, str)
    found = shutil.which("python3.11")
    if platform.python_version().startswith("3.11.") or found is None:
        return here, platform.python_version()
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallFailed("Looking for Python", f"{found}: {error}", cache.log("engine")) from error
    return found, said.stdout.removeprefix("Python").strip()


def _make(cache: Cache, home: Path, recipe: Recipe, *, base: str, lock: int, progress: Progress) -> None:
    """Make it at its final path (environments can't be moved), from nothing; `complete` is written last of all."""
    began = time.monotonic()
    log = cache.log(f"engine-{home.name}")
    scratch = home.with_name(f"{home.name}.scratch")
    remove(home)
    remove(scratch)
    scratch.mkdir(parents=True)
    if (free := shutil.disk_usage(scratch).free) < recipe.free_bytes:
        wanted = f"{recipe.free_bytes / 1e9:.0f} GB must be free in {cache.root}, {free / 1e9:.1f} GB are"
        raise InstallFailed("Making room for the engine", wanted, log)

    def step(name: str, *, total: int | None = None) -> Step:
        return Step(name=name, log=log, lock=lock, grows=(home, scratch), total=total)

    step("Making the engine's environment").run([base, "-m", "venv", str(home)], progress=progress)
    pip = [str(home / "bin" / "python"), *_PIP, *(["--no-deps"] if recipe.closed else [])]
    # What pip leaves when it is killed lies where we clean up.
    environment = {"TMPDIR": str(scratch), "PIP_ROOT_USER_ACTION": "ignore"}
    if recipe.cpu_torch:
        install = [*pip, _cpu_torch(recipe.requirements)]
        try:
            step("Installing PyTorch").run(install, progress=progress, environment=environment)
        except InstallFailed:
            install += ["--extra-index-url", _TORCH_INDEX]
            step("Installing PyTorch from pytorch.org").run(install, progress=progress, environment=environment)
    install = [*pip, "-r", str(recipe.requirements)]
    step("Installing SGLang", total=recipe.size_bytes).run(install, progress=progress, environment=environment)
    proof = [str(home / "bin" / "python"), "-c", recipe.proof]
    shims = {"PYTHONPATH": recipe.python_path} if recipe.python_path else {}
    Step(name="Checking that SGLang starts", log=log, lock=lock).run(proof, progress=progress, environment=shims)
    remove(scratch)
    done = _Complete(
        python=base,
        size_bytes=size_of(home),
        seconds=round(time.monotonic() - began, 1),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    with (home / _COMPLETE).open("wb") as sink:
        sink.write(msgspec.json.encode(done))
        sink.flush()
        os.fsync(sink.fileno())


def _pins(requirements: Path) -> str:
    """The file without its comments: rewording one must not cost everyone three gigabytes."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text().splitlines())
    return "\n".join(line for line in lines if line)


def _cpu_torch(requirements: Path) -> str:
    found = re.search(r"^torch==[0-9.]+$", requirements.read_text(), re.MULTILINE)
    assert found is not None, "the freeze pins torch"
    return f"{found.group()}+cpu"
