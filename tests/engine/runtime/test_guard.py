"""A guarded command can't outlive its starter, whichever of them is killed and however its children behave."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from museway_engine.runtime.guarded import Guarded
from processes import ended, marked

pytestmark = pytest.mark.faults

# Says when it is ready by opening the pipe at `fifo`; ignores TERM; has a child and a grandchild in its own session.
_DEAF = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"
_AWAY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {_DEAF!r}], start_new_session=True)"
_BROOD = f"""
import signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", {_DEAF!r}])
subprocess.Popen([sys.executable, "-c", {_AWAY!r}]).wait()
open(sys.argv[1], "w").close()
threading.Event().wait()
"""


def brood(folder: Path, *, grace_s: float = 0.3) -> tuple[Guarded, str]:
    """A command with a deaf family, all of it up; and the mark in its environment."""
    fifo = folder / "ready"
    os.mkfifo(fifo)
    process = Guarded(
        [sys.executable, "-c", _BROOD, str(fifo)],
        log=folder / "log",
        environment={"GUARD_MARK": str(folder)},
        grace_s=grace_s,
    )
    fifo.open().close()
    return process, f"GUARD_MARK={folder}"


def test_the_exit_status_comes_through(tmp_path: Path) -> None:
    with Guarded([sys.executable, "-c", "raise SystemExit(7)"], log=tmp_path / "log") as process:
        assert process.wait(20) == 7


def test_a_signal_is_128_and_its_number(tmp_path: Path) -> None:
    with Guarded(["sh", "-c", "kill -KILL $$"], log=tmp_path / "log") as process:
        assert process.wait(20) == 128 + signal.SIGKILL


def test_a_missing_program_is_127_and_named_in_the_log(tmp_path: Path) -> None:
    with Guarded(["/no/such/program"], log=tmp_path / "log") as process:
        assert process.wait(20) == 127
    assert "/no/such/program: No such file" in (tmp_path / "log").read_text()


def test_stop_takes_the_whole_deaf_family(tmp_path: Path) -> None:
    process, mark = brood(tmp_path)
    family = marked(mark)
    assert len(family) == 3
    assert process.stop() == 128 + signal.SIGKILL
    assert marked(mark) == []


def test_a_command_that_ends_takes_its_orphans_along(tmp_path: Path) -> None:
    environment = {"GUARD_MARK": str(tmp_path)}
    with Guarded([sys.executable, "-c", _AWAY], log=tmp_path / "log", environment=environment) as process:
        assert process.wait(20) == 0
    assert marked(f"GUARD_MARK={tmp_path}") == []


def test_the_guard_killed_takes_the_command_along(tmp_path: Path) -> None:
    process, mark = brood(tmp_path)
    family = marked(mark)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) is not None
    # The command itself is bound to the guard by the kernel. Its deaf children are not (SGLang's bind themselves).
    survivors = [pid for pid in family if not ended([pid], within_s=2)]
    assert len(survivors) == 2
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)


_STARTER = """
import sys, threading
from pathlib import Path
from museway_engine.runtime.guarded import Guarded
folder = Path(sys.argv[1])
kept = Guarded([sys.executable, "-c", sys.argv[2], str(folder / "ready")], log=folder / "log",
               environment={"GUARD_MARK": str(folder)}, grace_s=60)
threading.Event().wait()
"""


def test_kill_9_of_the_starter_leaves_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, str(tmp_path), _BROOD])
    (tmp_path / "ready").open().close()
    family = marked(f"GUARD_MARK={tmp_path}")
    assert len(family) == 3
    starter.kill()
    starter.wait()
    # Deaf to TERM, so they are killed when the life line's own grace (3 s, not 60) is over.
    assert ended(family, within_s=10)
    assert marked(f"GUARD_MARK={tmp_path}") == []


def test_a_starter_thread_that_ends_does_not_end_the_command(tmp_path: Path) -> None:
    """What PR_SET_PDEATHSIG without a guard gets wrong: it follows the thread that forked."""
    code = textwrap.dedent("""
        import sys, threading
        from pathlib import Path
        from museway_engine.runtime.guarded import Guarded
        got = []
        def start():
            got.append(Guarded([sys.executable, "-c", "import sys; sys.exit(0)"], log=Path(sys.argv[1])))
        thread = threading.Thread(target=start); thread.start(); thread.join()
        raise SystemExit(got[0].wait(20))
    """)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], check=False).returncode == 0


def test_our_settings_stay_with_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEWAY_STRIPE_API_KEY", "sk_live_secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    with Guarded(["env"], log=tmp_path / "log", environment={"OMP_NUM_THREADS": "1"}) as process:
        assert process.wait(20) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert "OMP_NUM_THREADS=1" in lines
    assert not [line for line in lines if line.startswith(("MUSEWAY_", "PYTHON"))]


def test_a_lock_is_held_until_the_family_is_gone_and_not_by_it(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)
    seen = (
        "import os, threading; print(sorted(os.listdir('/proc/self/fd')), flush=True); "
        f"open({str(fifo)!r}, 'w').close(); threading.Event().wait()"
    )
    process = Guarded([sys.executable, "-c", seen], log=tmp_path / "log", hold=(descriptor,))
    fifo.open().close()
    os.close(descriptor)  # as if the starter had been killed; its life line is still up
    other = os.open(tmp_path / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.stop()
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    # 0, 1, 2 and the one that listdir itself opened.
    assert (tmp_path / "log").read_text().strip() == "['0', '1', '2', '3']"
