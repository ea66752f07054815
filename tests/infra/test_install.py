"""`make install`: does nothing when nothing changed, waits for another run, takes up after one that was interrupted.

The script runs as it is, in a checkout of its own whose `.venv` has a stand-in for Python that writes down what it is
asked: what pip does with it is pip's, and `make test` itself has just run the real thing.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "dev" / "install.py"
_STAND_IN = """#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
case "$*" in
  *" install "*--editable*)
    echo begin >> "$root/calls"
    if [ -p "$root/gate" ]; then echo in > "$root/arrived"; read -r _ < "$root/gate"; fi
    if [ -f "$root/broken" ]; then echo "ERROR: no such package"; exit 1; fi
    echo end >> "$root/calls" ;;
esac
exit 0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "sdk/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[project]\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(_STAND_IN)
    python.chmod(0o755)
    (tmp_path / "infra" / "dev").mkdir(parents=True)
    shutil.copy(_SCRIPT, tmp_path / "infra" / "dev" / "install.py")
    return tmp_path


def _start(checkout: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", str(checkout / "infra" / "dev" / "install.py")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _run(checkout: Path) -> tuple[int, str]:
    process = _start(checkout)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def _calls(checkout: Path) -> list[str]:
    calls = checkout / "calls"
    return calls.read_text().split() if calls.exists() else []


def test_a_second_run_does_nothing(checkout: Path) -> None:
    status, said = _run(checkout)
    assert status == 0 and "Packages" in said and "MB" in said
    assert _run(checkout) == (0, "")
    assert _calls(checkout) == ["begin", "end"]


@pytest.mark.parametrize("name", ["pyproject.toml", "sdk/pyproject.toml", "infra/dev/install.py"])
def test_a_change_of_what_it_is_made_from_makes_it_again(checkout: Path, name: str) -> None:
    _run(checkout)
    (checkout / name).write_text((checkout / name).read_text() + "\n")
    _run(checkout)
    assert _calls(checkout) == ["begin", "end"] * 2


def test_a_failure_says_what_and_where_and_is_not_remembered_as_done(checkout: Path) -> None:
    (checkout / "broken").touch()
    status, said = _run(checkout)
    assert status == 1 and "install.log" in said and "ERROR: no such package" in said and "Traceback" not in said
    (checkout / "broken").unlink()
    assert _run(checkout)[0] == 0


def _fifo(path: Path) -> Path:
    subprocess.run(["mkfifo", str(path)], check=True)
    return path


def test_two_at_once_wait_for_each_other(checkout: Path) -> None:
    gate, arrived = _fifo(checkout / "gate"), _fifo(checkout / "arrived")
    first = _start(checkout)
    arrived.read_text()  # the first is inside pip now
    second = _start(checkout)
    assert second.stdout is not None and "waiting" in second.stdout.readline()
    gate.write_text("go\n")
    assert first.wait(60) == 0 and second.wait(60) == 0
    assert _calls(checkout) == ["begin", "end"], "the second found it done"
    for process in (first, second):
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_is_taken_up_by_the_next(checkout: Path, number: signal.Signals) -> None:
    gate, arrived = _fifo(checkout / "gate"), _fifo(checkout / "arrived")
    process = _start(checkout)
    arrived.read_text()
    process.send_signal(number)
    assert process.wait(60) != 0
    gate.rename(checkout / "open gate")
    again = _start(checkout)
    with (checkout / "open gate").open(
        "r+b", buffering=0
    ) as waiting:  # frees the stand-in where it outlived its starter (SIGKILL)
        waiting.write(b"go\n")
        assert again.wait(60) == 0
    process.communicate()
    again.communicate()
    ends_before = 1 if number is signal.SIGKILL else 0
    assert _calls(checkout) == ["begin"] + ["end"] * ends_before + ["begin", "end"], "never two at once"
