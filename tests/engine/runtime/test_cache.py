from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.stub_engine import Recorder
from museway_engine.runtime.cache import Cache, fingerprint, remove, size_of
from museway_engine.runtime.progress import Silent

# Takes the lock, says so on standard output, keeps it until its standard input ends.
_HOLDER = """
import sys
from pathlib import Path
from museway_engine.runtime.cache import Cache
from museway_engine.runtime.progress import Silent
with Cache(Path(sys.argv[1])).locked("entry", purpose="bakes bread", progress=Silent()):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


class Waiting(Recorder):
    """Says when it is told of a wait, so that the test may let the holder go exactly then."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def step(self, name: str) -> None:
        super().step(name)
        self.told.set()


def test_the_second_waits_and_is_told_for_whom(tmp_path: Path) -> None:
    waiting, took = Waiting(), threading.Event()

    def take() -> None:
        with Cache(tmp_path).locked("entry", purpose="waits", progress=waiting):
            took.set()

    with holder(tmp_path) as first:
        second = threading.Thread(target=take)
        second.start()
        assert waiting.told.wait(20)
        assert not took.is_set()
        first.communicate("")
        assert took.wait(20)
        second.join()
    assert waiting.steps == [f"Waiting for process {first.pid}, which bakes bread"]
    assert waiting.finished == 1


def test_a_killed_holder_frees_the_lock(tmp_path: Path, recorder: Recorder) -> None:
    with holder(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with Cache(tmp_path).locked("entry", purpose="goes on", progress=recorder):
            assert recorder.steps == []


def test_entries_do_not_wait_for_each_other(tmp_path: Path, recorder: Recorder) -> None:
    with holder(tmp_path) as first:
        with Cache(tmp_path).locked("another", purpose="goes on", progress=recorder):
            assert recorder.steps == []
        first.communicate("")


def test_the_lock_is_free_again_after_an_error(tmp_path: Path, recorder: Recorder) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError), cache.locked("entry", purpose="fails", progress=Silent()):
        raise RuntimeError
    with cache.locked("entry", purpose="goes on", progress=recorder):
        assert recorder.steps == []


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_differ_where_the_parts_do(one: list[str], other: list[str]) -> None:
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)


def test_a_fingerprint_is_a_short_name() -> None:
    assert fingerprint("a", b"b") == fingerprint("a", "b")
    assert len(fingerprint("a")) == 16


def test_size_counts_files_below_and_nothing_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "two").write_bytes(b"123")
    (tmp_path / "a" / "b" / "loop").symlink_to(tmp_path / "a")
    link = (tmp_path / "a" / "b" / "loop").lstat().st_size
    assert size_of(tmp_path / "a", tmp_path / "absent") == 8 + link


def test_remove_deletes_a_link_and_not_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "entry").symlink_to(tmp_path / "kept")
    remove(tmp_path / "entry")
    remove(tmp_path / "entry")
    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "entry").exists()
