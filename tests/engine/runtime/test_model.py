"""The model's directory, with a converter that writes two small files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from doubles.stub_engine import Recorder
from museway_engine.runtime import manifest
from museway_engine.runtime.cache import Cache
from museway_engine.runtime.model import CONVERTER, MODELS, model_directory
from museway_engine.runtime.step import InstallFailed
from processes import marked

_CONVERTER = """
import pathlib, sys
assert sys.argv[1] == "smollm2-135m" and sys.argv[3] == "--threads"
out = pathlib.Path(sys.argv[2])
out.mkdir()
(out / "model.safetensors").write_bytes(b"weights")
{halt}
(out / "config.json").write_text("{{}}")
"""

_RUN = """
import sys
from pathlib import Path
from museway_engine.runtime.cache import Cache
from museway_engine.runtime.model import model_directory
from museway_engine.runtime.progress import Silent
cache, converter, python = Cache(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.executable)
model_directory(cache, "smollm2-135m", python=python, progress=Silent(), converter=converter)
"""


class Bench:
    def __init__(self, folder: Path) -> None:
        self.cache, self.converter, self.recorder = Cache(folder / "cache"), folder / "converter.py", Recorder()
        self.converter.write_text(_CONVERTER.format(halt=""))

    def make(self, *, thorough: bool = False) -> Path:
        return model_directory(
            self.cache,
            "smollm2-135m",
            python=Path(sys.executable),
            progress=self.recorder,
            converter=self.converter,
            thorough=thorough,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_made_once_and_then_found(bench: Bench) -> None:
    made = bench.make()
    assert manifest.damage(made, thorough=True) is None
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert bench.make() == made
    assert bench.make(thorough=True) == made
    assert bench.recorder.steps == ["Making the model smollm2-135m"]


def test_another_converter_makes_another_entry(bench: Bench) -> None:
    made = bench.make()
    bench.converter.write_text(bench.converter.read_text() + "# changed\n")
    assert bench.make() != made
    assert made.is_dir()


def test_a_damaged_file_is_noticed_and_the_model_made_again(bench: Bench) -> None:
    made = bench.make()
    (made / "model.safetensors").write_bytes(b"wEights")
    assert bench.make() == made
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert bench.recorder.finished == 2
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_damage_that_keeps_size_and_time_takes_a_thorough_look(bench: Bench) -> None:
    weights = bench.make() / "model.safetensors"
    stat = weights.stat()
    weights.write_bytes(b"wEights")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    bench.make()
    assert weights.read_bytes() == b"wEights"
    bench.make(thorough=True)
    assert weights.read_bytes() == b"weights"


@pytest.mark.faults
def test_killed_in_the_middle_it_is_made_anew(bench: Bench, tmp_path: Path) -> None:
    fifo = tmp_path / "reached"
    os.mkfifo(fifo)
    halt = f"""
import signal, threading
if pathlib.Path({str(fifo)!r}).exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({str(fifo)!r}, 'w').close()
    threading.Event().wait()
"""
    bench.converter.write_text(_CONVERTER.format(halt=halt))
    with subprocess.Popen([sys.executable, "-c", _RUN, str(bench.cache.root), str(bench.converter)]) as process:
        fifo.open().close()
        process.kill()
    half = list((bench.cache.root / "models").iterdir())
    assert [path.suffix for path in half] == [".building"]
    # Deaf to TERM, the converter lives on for a moment; nobody else gets the lock before it has gone.
    assert marked(f"TMPDIR={half[0]}")
    with bench.cache.locked(f"model-{half[0].stem}", purpose="looks", progress=bench.recorder):
        assert marked(f"TMPDIR={half[0]}") == []
    fifo.unlink()
    made = bench.make()
    assert (made / "config.json").read_text() == "{}"
    assert list(made.parent.iterdir()) == [made]


def test_a_failing_converter_is_one_line(bench: Bench) -> None:
    bench.converter.write_text("raise SystemExit('GGUF sha256 is 00, expected ff')")
    with pytest.raises(InstallFailed, match="Making the model smollm2-135m failed: GGUF sha256 is 00, expected ff"):
        bench.make()
    assert not [path for path in (bench.cache.root / "models").iterdir() if path.suffix != ".building"]


def test_a_directory_that_is_brought_is_taken_as_it_is(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(InstallFailed, match=r"mine has no config.json"):
        model_directory(bench.cache, str(tmp_path / "mine"), python=Path(sys.executable), progress=bench.recorder)
    (tmp_path / "mine" / "config.json").write_text("{}")
    found = model_directory(bench.cache, str(tmp_path / "mine"), python=Path(sys.executable), progress=bench.recorder)
    assert found == tmp_path / "mine"


def test_an_unknown_name_lists_the_known_ones(bench: Bench) -> None:
    with pytest.raises(InstallFailed, match="no model is named 'llama': give one of smollm2-135m, qwen25"):
        model_directory(bench.cache, "llama", python=Path(sys.executable), progress=bench.recorder)


def test_the_names_are_those_that_the_converter_knows() -> None:
    assert set(re.findall(r'^    "([a-z0-9.-]+)": Source\($', CONVERTER.read_text(), re.MULTILINE)) == MODELS.keys()
