"""What is measured: the skeleton on two servers, nginx where it is installed, and the gateway."""

import json
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from bench.processes import BenchProcess, free_port

_HERE = Path(__file__).resolve().parent
_TESTS = str(_HERE.parent)
_NO_KEY = "mw_test_the_skeleton_asks_for_none"
_GATEWAY_CORE = 0


class Running(Struct):
    """A subject that answers: where, with which key, and the process to measure."""

    name: str
    process: BenchProcess
    port: int
    key: str


Starter = Callable[[int, Path], Running]
"""From the worker's port and a folder for files to a subject that answers; the caller stops its process."""


def skeleton(server: str) -> Starter:
    """The skeleton on `granian` or `uvicorn`, one worker process, uvloop."""
    commands = {
        "granian": "--interface asgi --loop uvloop --http 1 --workers 1 --no-access-log --log-level error",
        "uvicorn": "--loop uvloop --http httptools --no-access-log --log-level error",
    }

    def start(worker: int, folder: Path) -> Running:
        port = free_port()
        command = f"{sys.executable} -m {server} {commands[server]} --port {port} bench.skeleton:app"
        environment = {"SKELETON_WORKER": str(worker), "PYTHONPATH": _TESTS}
        process = BenchProcess(command, core=_GATEWAY_CORE, environment=environment, folder=folder)
        return _ready(f"skeleton, {server}", process, port, _NO_KEY)

    return start


def nginx(worker: int, folder: Path) -> Running:
    """nginx as a plain proxy."""
    port = free_port()
    text = (_HERE / "nginx.conf").read_text()
    for name, value in (("__PORT__", str(port)), ("__WORKER__", str(worker)), ("__DIR__", str(folder))):
        text = text.replace(name, value)
    (folder / "nginx.conf").write_text(text)
    program = nginx_program()
    assert program is not None
    process = BenchProcess(
        [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], core=_GATEWAY_CORE, folder=folder
    )
    return _ready("nginx", process, port, _NO_KEY)


def nginx_program() -> str | None:
    """Where nginx is installed, also where only root has its folder in the path."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def gateway(command: str | None, key: str | None) -> Starter:
    """The gateway, everything on.

    Without a command, `museway up --json` beside this interpreter, with a fresh data directory: it prints its URL and key.
    A command gets `{port}`, `{worker}` (port) and `{data}` (folder) filled in and its key from the caller.
    """

    def start(worker: int, folder: Path) -> Running:
        port = free_port()
        data = folder / "data"
        environment = {
            "MUSEWAY_ENGINE_URLS": f"http://127.0.0.1:{worker}",
            "MUSEWAY_DATA_DIR": str(data),
            "MUSEWAY_PORT": str(port),
        }
        if command is not None:
            filled = command.format(port=port, worker=worker, data=data)
            process = BenchProcess(filled, core=_GATEWAY_CORE, environment=environment, folder=folder)
            return _ready("gateway", process, port, key or "")
        program = str(Path(sys.executable).parent / "museway")
        words = [program, "up", "--json"]
        process = BenchProcess(words, core=_GATEWAY_CORE, environment=environment, folder=folder, pipe_output=True)
        assert process.process.stdout is not None
        line = process.process.stdout.readline()
        if not line:
            process.__exit__()
            raise process.ended_early()
        return _ready("gateway", process, port, str(json.loads(line)["key"]))

    return start


def _ready(name: str, process: BenchProcess, port: int, key: str) -> Running:
    try:
        process.wait_port(port)
    except (RuntimeError, TimeoutError):
        process.__exit__()
        raise
    return Running(name, process, port, key)


@contextmanager
def running(starters: list[Starter], worker: int, folder: Path) -> Generator[list[Running]]:
    """All of them at once, each with a folder of its own."""
    started: list[Running] = []
    try:
        for number, starter in enumerate(starters):
            (own := folder / str(number)).mkdir()
            started.append(starter(worker, own))
        yield started
    finally:
        for subject in reversed(started):
            subject.process.__exit__()
