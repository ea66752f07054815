"""The engine's environment with a tiny package in SGLang's place: real venv, real pip, no network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from doubles.stub_engine import Recorder
from museway_engine.runtime.cache import Cache
from museway_engine.runtime.environment import Recipe, engine_environment
from museway_engine.runtime.step import InstallFailed
from processes import marked

_RUN = """
import sys
from pathlib import Path
import msgspec
from museway_engine.runtime.cache import Cache
from museway_engine.runtime.environment import Recipe, engine_environment
class Told:
    def step(self, name): print(name, flush=True)
    def update(self, done_bytes, total): pass
    def done(self, seconds, size_bytes): pass
recipe = msgspec.json.decode(sys.argv[2], type=Recipe, dec_hook=lambda kind, text: Path(text))
print(engine_environment(Cache(Path(sys.argv[1])), recipe, progress=Told()), flush=True)
"""


def tiny_wheel(folder: Path) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "answer = 42\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# as tests want it\ntiny @ {tiny_wheel(tmp_path).as_uri()}\n")
    return Recipe(
        requirements=requirements, closed=True, cpu_torch=False, proof="import tiny; assert tiny.answer == 42"
    )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def installer(cache: Cache, recipe: Recipe, mark: str) -> subprocess.Popen[str]:
    order = msgspec.json.encode(recipe, enc_hook=str).decode()
    argv = [sys.executable, "-c", _RUN, str(cache.root), order]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ | {"INSTALL_MARK": mark})


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def halting(recipe: Recipe, folder: Path) -> tuple[Recipe, Path]:
    """A recipe whose proof says at a pipe that it is reached, and then never ends."""
    fifo = folder / "reached"
    os.mkfifo(fifo)
    proof = f"import threading, tiny; open({str(fifo)!r}, 'w').close(); threading.Event().wait()"
    return msgspec.structs.replace(recipe, proof=proof), fifo


def test_it_is_made_once_and_then_found(cache: Cache, recipe: Recipe, recorder: Recorder) -> None:
    python = engine_environment(cache, recipe, progress=recorder)
    assert recorder.steps == ["Making the engine's environment", "Installing SGLang", "Checking that SGLang starts"]
    assert recorder.finished == 3
    assert subprocess.run([python, "-c", "import tiny"], check=False).returncode == 0
    assert engine_environment(cache, recipe, progress=recorder) == python
    recipe.requirements.write_text(recipe.requirements.read_text().replace("as tests want it", "reworded"))
    assert engine_environment(cache, recipe, progress=recorder) == python
    assert recorder.finished == 3
    # An upgrade of the system took the interpreter that it was made with.
    python.unlink()
    python.symlink_to("/no/such/python3.11")
    assert engine_environment(cache, recipe, progress=recorder) == python
    assert recorder.finished == 6
    assert sorted(path.name for path in (cache.root / "engines").iterdir()) == [python.parent.parent.name]


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_no_process_and_the_next_run_works(
    cache: Cache, recipe: Recipe, recorder: Recorder, tmp_path: Path, number: signal.Signals
) -> None:
    halted, fifo = halting(recipe, tmp_path)
    mark = f"interrupted-{number}-{tmp_path}"
    with installer(cache, halted, mark) as process:
        fifo.open().close()
        process.send_signal(number)
        assert process.wait(20) != 0
    # The lock is free only when the last process of the installation is gone, however the installer went.
    engine_environment(cache, recipe, progress=recorder)
    assert marked(f"INSTALL_MARK={mark}") == []
    assert recorder.steps[-1] == "Checking that SGLang starts"


@pytest.mark.faults
def test_of_two_at_once_one_makes_it_and_the_other_says_for_whom_it_waits(
    cache: Cache, recipe: Recipe, tmp_path: Path
) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    slow = msgspec.structs.replace(recipe, proof=f"open({str(fifo)!r}).close()")
    with installer(cache, slow, "first") as first:
        assert line(first) == "Making the engine's environment"
        with installer(cache, slow, "second") as second:
            assert line(second) == f"Waiting for process {first.pid}, which installs the engine's packages"
            fifo.open("w").close()
            assert [line(first), line(first)] == ["Installing SGLang", "Checking that SGLang starts"]
            made = line(first)
            assert line(second) == made
            assert (first.wait(20), second.wait(20)) == (0, 0)


def test_a_failure_is_one_line_that_names_the_log(
    cache: Cache, recipe: Recipe, recorder: Recorder, tmp_path: Path
) -> None:
    recipe.requirements.write_text(f"tiny @ {(tmp_path / 'absent-1.0-py3-none-any.whl').as_uri()}\n")
    with pytest.raises(InstallFailed) as caught:
        engine_environment(cache, recipe, progress=recorder)
    error = caught.value
    assert error.step == "Installing SGLang"
    assert str(error).startswith("Installing SGLang failed: ERROR: ")
    assert "\n" not in str(error)
    assert str(error.log) in str(error)
    assert "absent-1.0" in error.log.read_text()


def test_pytorch_is_asked_for_as_a_cpu_build_then_at_its_own_index(
    cache: Cache, recipe: Recipe, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    recipe.requirements.write_text("torch==0.0.1\n")
    with pytest.raises(InstallFailed, match=r"Installing PyTorch from pytorch\.org"):
        engine_environment(cache, msgspec.structs.replace(recipe, cpu_torch=True), progress=recorder)
    assert recorder.steps[1:] == ["Installing PyTorch", "Installing PyTorch from pytorch.org"]


def test_too_little_room_is_said_before_anything_is_made(cache: Cache, recipe: Recipe, recorder: Recorder) -> None:
    with pytest.raises(InstallFailed, match=r"1000000000 GB must be free in .*, [0-9.]+ GB are"):
        engine_environment(cache, msgspec.structs.replace(recipe, free_bytes=10**18), progress=recorder)
    assert recorder.steps == []
