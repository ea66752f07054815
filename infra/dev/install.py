"""Make `.venv` with all that running, checking and testing Museway needs. `make install` calls it, and so does all else.

Standard library only: it runs before anything is installed. It does nothing, in a tenth of a second, while the two
pyproject files, the Python and this file are those of the last complete run. Two runs at once wait for each other;
one that was interrupted is taken up by the next. Exit status: 0, or 1 after one line that says what failed and where
the whole output is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = VENV / "installed"
CACHE = ROOT / ".cache"
LOG = CACHE / "install.log"
PYTHON = VENV / "bin" / "python"

# pip before 25.1 knows no dependency groups.
PIP = "pip>=25.1"
PROJECT = ["--editable", "./sdk", "--editable", ".", "--group", "dev"]


def main() -> int:
    CACHE.mkdir(exist_ok=True)
    with locked(CACHE / "install.lock"):
        wanted = fingerprint()
        if STAMP.exists() and STAMP.read_text() == wanted:
            return 0
        try:
            LOG.unlink(missing_ok=True)
            with told("Python environment"):
                make_environment()
            with told("Packages"):
                pip("install", *PROJECT)
        except subprocess.CalledProcessError as error:
            say(f"\nmake install: {error.cmd[-1]!r} failed with status {error.returncode}; the whole output is {LOG}\n")
            say("".join(LOG.read_text(errors="replace").splitlines(keepends=True)[-12:]))
            return 1
        STAMP.write_text(wanted)
        return 0


def fingerprint() -> str:
    """What the environment is made from."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {ROOT}".encode())
    for path in (ROOT / "pyproject.toml", ROOT / "sdk" / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_environment() -> None:
    """A virtual environment with a new enough pip; one whose Python does not start is made again from nothing."""
    if not works():
        shutil.rmtree(VENV, ignore_errors=True)
        run(sys.executable, "-I", "-m", "venv", "--without-pip", str(VENV))
    # Some systems ship Python without `ensurepip`. Any pip of the system can fill an environment from outside.
    bundled = subprocess.run([sys.executable, "-I", "-c", "import ensurepip"], capture_output=True, check=False)
    if bundled.returncode == 0:
        run(str(PYTHON), "-I", "-m", "ensurepip", "--default-pip")
    else:
        run(sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", PIP)
    pip("install", PIP)


def works() -> bool:
    return (
        PYTHON.exists() and subprocess.run([PYTHON, "-I", "-c", ""], capture_output=True, check=False).returncode == 0
    )


def pip(*arguments: str) -> None:
    run(str(PYTHON), "-I", "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def run(*command: str) -> None:
    """Run it in the repository with its output in the log. Raises CalledProcessError."""
    with LOG.open("ab") as log:
        log.write(f"$ {' '.join(command)}\n".encode())
        log.flush()
        # `close_fds`: the lock is inherited, so that after a `kill -9` of this process nobody else begins before pip ends.
        subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            close_fds=False,
            check=True,
        )


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock of this checkout; the kernel frees it when this process and its children are gone."""
    with path.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another run installs into this checkout: waiting for it\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def told(step: str) -> Generator[None]:
    """Say what begins, then how long it took and how large the environment is now."""
    began = time.monotonic()
    say(f"{step} … ")
    yield
    size = sum(path.lstat().st_size for path in VENV.rglob("*") if path.is_file())
    say(f"{time.monotonic() - began:.0f} s, {size / 1e6:.0f} MB\n")


def say(text: str) -> None:
    """At once, also through a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()


def end(*_: object) -> NoReturn:
    """SIGTERM is an ordinary end: locks and children go."""
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        status = main()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
