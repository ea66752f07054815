"""The bench's two C programs: built once a run, and spoken to."""

import http.client
import json
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct, convert

from bench.processes import BenchProcess, free_port

_HERE = Path(__file__).resolve().parent
_LOAD_CORE = 1
_PATH = "/v1/chat/completions"
_GRACE_S = 30.0


class Load(Struct, kw_only=True):
    """What the load client saw. Percentiles are (50th, 99th), in microseconds."""

    seconds: float
    requests: int
    tokens: int
    errors: int
    request_us: tuple[float, float]
    first_byte_us: tuple[float, float]
    first_token_us: tuple[float, float]
    age_us: tuple[float, float]


def build(folder: Path) -> None:
    """Compile `fakeup` and `load` into the folder. Raises RuntimeError where no C compiler is there."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the bench needs a C compiler (cc, gcc or clang)")
    for name in ("fakeup", "load"):
        subprocess.run([compiler, "-O2", "-o", str(folder / name), str(_HERE / f"{name}.c")], check=True)


class Fakeup:
    """The C worker. Every stream has 64 tokens."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [str(folder / "fakeup"), str(self.port), "64", "0"]
        self.process = BenchProcess(command, core=_LOAD_CORE, folder=folder)
        self.process.wait_port(self.port)

    def set_interval(self, microseconds: int) -> None:
        """Time between two tokens of a stream; 0 sends one per turn of the loop."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", f"/_interval/{microseconds}")
        connection.getresponse().read()
        connection.close()


def load(
    folder: Path,
    *,
    port: int,
    key: str,
    connections: int,
    seconds: float,
    stream: bool,
    rate: float = 0.0,
    body: int = 200,
) -> Load:
    """Load one port; `rate` in requests a second, 0 for as many as come back. Blocks for `seconds`. Raises RuntimeError."""
    words = [str(folder / "load"), port, connections, seconds, "stream" if stream else "json", _PATH, key, body, rate]
    pinned = ["taskset", "-c", str(_LOAD_CORE)] if shutil.which("taskset") else []
    ran = subprocess.run(
        [*pinned, *map(str, words)], capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"the load client failed: {ran.stderr[-600:]}")
    if ran.stderr:
        print(ran.stderr[:600])
    return convert(json.loads(ran.stdout), Load)
