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

# About what the finished environment and pip's working copies come to, and what must be free before we begin.
_BYTES: dict[Device, int | None] = {"cpu": 3_600_000_000, "gpu": None}
_FREE_BYTES: dict[Device, int] = {"cpu": 5_000_000_000, "gpu": 25_000_000_000}

# PyPI's torch for Linux is a CUDA build. The CPU builds are versions of their own (`+cpu`) on PyTorch's index, which we
# ask only if pip, as it is configured here, does not know one: a mirror or a folder of wheels comes first.
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

_PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off")

_PROOF: dict[Device, str] = {
    "cpu": "from sglang_cpu import launch; import sglang, torch; print(sglang.__version__, torch.__version__)",
    "gpu": "import sglang, torch; assert torch.cuda.is_available(); print(sglang.__version__, torch.__version__)",
}


class _Complete(msgspec.Struct, frozen=True):
    """What `complete` says: for a person who finds it."""

    device: str
    python: str
    size_bytes: int
    seconds: float
    made: str


def engine_environment(cache: Cache, *, device: Device, progress: Progress) -> Path:
    """The Python of the engine's environment, made first if it is not there. Blocks; minutes where it must be made.

    Raises InstallFailed. Safe to interrupt and to run several times at once: one makes it, the others wait and are told.
    """
    requirements = _RUNTIME / f"requirements-{device}.txt"
    base, version = _interpreter(cache)
    home = cache.engine(fingerprint(requirements.read_bytes(), version, platform.machine(), device))
    python = home / "bin" / "python"
    if _complete(home):
        return python
    purpose = "installs the engine's packages"
    with cache.locked(f"engine-{home.name}", purpose=purpose, progress=progress) as lock:
        if not _complete(home):
            _make(cache, home, base=base, requirements=requirements, device=device, lock=lock, progress=progress)
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


def _make(
    cache: Cache, home: Path, *, base: str, requirements: Path, device: Device, lock: int, progress: Progress
) -> None:
    """Make it at its final path (environments can't be moved), from nothing; `complete` is written last of all."""
    began = time.monotonic()
    log = cache.log(f"engine-{home.name}")
    scratch = home.with_name(f"{home.name}.scratch")
    remove(home)
    remove(scratch)
    scratch.mkdir(parents=True)
    if (free := shutil.disk_usage(scratch).free) < _FREE_BYTES[device]:
        wanted = f"{_FREE_BYTES[device] / 1e9:.0f} GB must be free in {cache.root}, {free / 1e9:.1f} GB are"
        raise InstallFailed("Making room for the engine", wanted, log)

    def step(name: str, *, total: int | None = None) -> Step:
        return Step(name=name, log=log, lock=lock, grows=(home, scratch), total=total)

    python = str(home / "bin" / "python")
    pip = {"TMPDIR": str(scratch), "PIP_ROOT_USER_ACTION": "ignore"}  # what pip leaves when killed lies where we clean
    step("Making the engine's environment").run([base, "-m", "venv", str(home)], progress=progress)
    if device == "cpu":
        torch = _torch_pin(requirements)
        install = [python, *_PIP, "--no-deps", torch]
        try:
            step("Installing PyTorch (CPU)").run(install, progress=progress, environment=pip)
        except InstallFailed:
            install += ["--extra-index-url", _TORCH_INDEX]
            step("Installing PyTorch (CPU) from pytorch.org").run(install, progress=progress, environment=pip)
    # --no-deps can't be written in the file, and without it pip fetches CUDA: gigabytes that would not even import.
    closed = ["--no-deps"] if device == "cpu" else []
    packages = [python, *_PIP, *closed, "-r", str(requirements)]
    step("Installing SGLang", total=_BYTES[device]).run(packages, progress=progress, environment=pip)
    shims = {"PYTHONPATH": str(_RUNTIME)} if device == "cpu" else {}
    step("Checking that SGLang starts").run([python, "-c", _PROOF[device]], progress=progress, environment=shims)
    remove(scratch)
    done = _Complete(
        device=device,
        python=base,
        size_bytes=size_of(home),
        seconds=round(time.monotonic() - began, 1),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    with (home / _COMPLETE).open("wb") as sink:
        sink.write(msgspec.json.encode(done))
        os.fsync(sink.fileno())


def _torch_pin(requirements: Path) -> str:
    found = re.search(r"^torch==[0-9.]+$", requirements.read_text(), re.MULTILINE)
    assert found is not None, "the freeze pins torch"
    return f"{found.group()}+cpu"
