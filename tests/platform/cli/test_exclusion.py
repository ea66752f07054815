"""One `up` per data directory, one listener per port; whoever comes second is told who was first."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from museway_platform.cli.lock import data_directory
from museway_platform.cli.ports import require_free
from museway_platform.cli.prompt import Failure

_HOLDER = """
import sys
from pathlib import Path
from museway_platform.cli.lock import data_directory
with data_directory(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Failure, match=rf"in use by another `museway up` \(process {holder.pid}\)"):
            data_directory(tmp_path).__enter__()
        holder.kill()
        holder.wait()
    with data_directory(tmp_path) as folder:  # the kernel freed it
        assert (folder / "up.lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot use the data directory"):
        data_directory(tmp_path / "file" / "data").__enter__()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(Failure, match=f"127.0.0.1:{port}.*MUSEWAY_PORT"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)
