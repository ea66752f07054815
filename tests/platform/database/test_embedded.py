"""The embedded PostgreSQL as a process: it dies with its parent, keeps what was committed, and is one per directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from museway_platform.database import cluster
from museway_platform.database.binaries import EmbeddedPostgresError, programs, unprivileged_account
from museway_platform.database.embedded import EmbeddedPostgres, connect_existing, remove
from processes import ended

OWNER = """
import os, sys
from pathlib import Path
from museway_platform.database.embedded import EmbeddedPostgres
{before_start}
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.{method}(), flush=True)
sys.stdin.readline()
server.stop()
"""


BECOME = "os.setgroups([]); os.setgid({gid}); os.setuid({uid})"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that PostgreSQL's user may reach; pytest's own is root's alone where we are root."""
    with tempfile.TemporaryDirectory(prefix="museway-test-") as made:
        Path(made).chmod(0o711)
        yield Path(made) / "data"
        remove(Path(made) / "data")


def sql(dsn: str, statement: str) -> str:
    psql = programs(Path(tempfile.gettempdir()), unprivileged_account()) / "psql"
    command = [psql, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, dsn]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=cluster.environment())
    return done.stdout.strip()


class Owner:
    """Another process that starts or borrows the server of a directory, until its standard input ends."""

    def __init__(self, folder: Path, method: str = "start", before_start: str = "") -> None:
        code = OWNER.format(method=method, before_start=before_start)
        command = [sys.executable, "-c", code, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.dsn = self.process.stdout.readline().strip()
        assert self.dsn, "it could not start"

    def end(self) -> None:
        self.process.communicate("\n", timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def postmaster_pid(folder: Path) -> int:
    server = cluster.postmaster(folder / "pgdata")
    assert server is not None
    return server.pid


def test_rows_are_there_after_stop_and_start(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    sql(server.start(), "create table kept as select 7 as n")
    server.stop()
    server.stop()
    assert connect_existing(folder) is None
    assert sql(server.start(), "select n from kept") == "7"
    server.stop()


def test_kill_9_of_the_parent_leaves_no_postgres_and_loses_no_row(folder: Path) -> None:
    owner = Owner(folder)
    sql(owner.dsn, "create table kept as select 7 as n")
    pid = postmaster_pid(folder)
    owner.kill()
    assert ended([pid], within_s=10)
    server = EmbeddedPostgres(folder)
    assert sql(server.start(), "select n from kept") == "7"
    server.stop()


def test_kill_9_of_both_at_once_and_a_start_right_away(folder: Path) -> None:
    owner = Owner(folder)
    sql(owner.dsn, "create table kept as select 7 as n")
    os.kill(postmaster_pid(folder), signal.SIGKILL)
    owner.kill()
    server = EmbeddedPostgres(folder)
    assert sql(server.start(), "select n from kept") == "7"
    server.stop()


def test_an_orphan_is_ended_and_not_used(folder: Path) -> None:
    """A server without an owner may get its own signal at any moment."""
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    account = unprivileged_account()
    pg_ctl, pgdata = programs(folder, account) / "pg_ctl", folder / "pgdata"
    subprocess.run(
        [pg_ctl, "start", "-w", "-s", "-D", pgdata, "-l", pgdata / "log", "-o", f"-k {pgdata} -c listen_addresses="],
        check=True,
        cwd="/",
        env=cluster.environment(),
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
    )
    orphan = postmaster_pid(folder)
    server.start()
    assert ended([orphan], within_s=0.1)
    assert postmaster_pid(folder) != orphan
    server.stop()


def test_a_command_beside_uses_the_running_server_and_leaves_it_running(folder: Path) -> None:
    owner = Owner(folder)
    assert connect_existing(folder) == owner.dsn
    beside = EmbeddedPostgres(folder)
    assert beside.borrow_or_start() == owner.dsn
    assert not beside.owned
    beside.stop()
    assert sql(owner.dsn, "select 1") == "1"
    owner.end()
    assert connect_existing(folder) is None
    assert beside.borrow_or_start()
    assert beside.owned
    beside.stop()


def test_the_owner_waits_for_who_borrows(folder: Path) -> None:
    owner = EmbeddedPostgres(folder)
    owner.start()
    borrower = Owner(folder, "borrow_or_start")
    stopping = threading.Thread(target=owner.stop)
    stopping.start()
    assert sql(borrower.dsn, "select 1") == "1"
    borrower.end()
    stopping.join(timeout=30)
    assert connect_existing(folder) is None


def test_a_second_owner_is_refused_in_one_line(folder: Path) -> None:
    owner = Owner(folder)
    with pytest.raises(EmbeddedPostgresError, match="another process serves"):
        EmbeddedPostgres(folder).start(timeout_s=0.1)
    owner.end()


def test_a_server_that_cannot_start_says_why_at_once(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    server.stop()
    (folder / "pgdata" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match="incompatible with server") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    assert connect_existing(folder) is None


def test_an_interrupted_first_start_is_begun_again(folder: Path) -> None:
    (folder / "pgdata.partial").mkdir(parents=True)
    (folder / "pgdata.partial" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder, durable=False)
    assert sql(server.start(), "select 1") == "1"
    server.stop()
    assert not (folder / "pgdata.partial").exists()


def test_after_a_crash_of_the_machine_a_strangers_process_is_left_alone(folder: Path) -> None:
    """The process id in the stale file is somebody's again, here of the very user that PostgreSQL runs as."""
    server = EmbeddedPostgres(folder)
    sql(server.start(), "create table kept as select 7 as n")
    lock_file = folder / "pgdata" / "postmaster.pid"
    stale = lock_file.read_text().partition("\n")[2]
    server.stop()
    account = unprivileged_account()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=None if account is None else account.uid) as stranger:
        lock_file.write_text(f"{stranger.pid}\n{stale}")
        assert connect_existing(folder) is None
        assert sql(server.start(timeout_s=10), "select n from kept") == "7"
        server.stop()
        assert stranger.poll() is None


def test_a_path_too_long_for_a_socket_gets_a_short_folder(folder: Path) -> None:
    deep = folder / ("long" * 20) / "er"
    server = EmbeddedPostgres(deep, durable=False)
    dsn = server.start()
    assert "/tmp/museway-" in dsn
    assert connect_existing(deep) == dsn
    assert sql(dsn, "select 1") == "1"
    server.stop()
    short = cluster.socket_folder(deep.resolve() / "pgdata", unprivileged_account())
    assert short.stat().st_mode & 0o777 == 0o700
    remove(deep)
    assert not short.exists()


def test_somebody_elses_socket_folder_is_refused(folder: Path) -> None:
    pgdata = folder / ("long" * 30) / "pgdata"
    short = cluster.socket_folder(pgdata, unprivileged_account())
    short.chmod(0o777)
    try:
        with pytest.raises(EmbeddedPostgresError, match="is not ours"):
            cluster.socket_folder(pgdata, unprivileged_account())
    finally:
        short.rmdir()


def test_an_ordinary_user_has_a_server_too(folder: Path) -> None:
    """Where we are root ourselves, by a process that stops being it once it has loaded what it needs."""
    nobody = unprivileged_account()
    if nobody is not None:
        folder.mkdir()
        os.chown(folder, nobody.uid, nobody.gid)
    owner = Owner(folder, before_start="" if nobody is None else BECOME.format(uid=nobody.uid, gid=nobody.gid))
    assert sql(owner.dsn, "select 1") == "1"
    pid = postmaster_pid(folder)
    assert (folder / "pgdata").stat().st_uid == (os.getuid() if nobody is None else nobody.uid)
    owner.kill()
    assert ended([pid], within_s=10)
