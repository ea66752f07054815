"""A PostgreSQL data folder (`pgdata`): made whole or not at all, and who serves it now."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from museway_platform.database.binaries import Account, EmbeddedPostgresError

DATABASE = "museway"
ROLE = "museway"
_SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path: `sun_path` has 108 with the closing zero."""
_SOCKET_NAME = ".s.PGSQL.5432"


class Postmaster(Struct, frozen=True):
    """A live server of one data folder, as its `postmaster.pid` tells."""

    pid: int
    socket_dir: Path
    ready: bool


def dsn(socket_dir: Path, database: str = DATABASE) -> str:
    """How asyncpg and libpq reach a server that listens in `socket_dir`."""
    return f"postgresql://{ROLE}@/{database}?host={quote(str(socket_dir))}"


def postmaster(pgdata: Path) -> Postmaster | None:
    """Who serves `pgdata`; None where nobody does, a stale file of a crashed machine included (its process id may by
    now belong to anybody, so the process must also stand in this very folder, where every postmaster stands)."""
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{pgdata} belongs to another user; run this as that user or as root") from error
    if len(lines) < 5 or not lines[0].isdigit() or not _stands_in(int(lines[0]), pgdata):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return Postmaster(pid=int(lines[0]), socket_dir=Path(lines[4]), ready=ready)


def _stands_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def forget_crashed(pgdata: Path) -> None:
    """Remove the `postmaster.pid` of a server that a crash of the machine ended, where its process id is a stranger's by
    now: PostgreSQL would take that stranger for a server and not start. To be called under the directory's lock.

    It stays where the id is nobody's: PostgreSQL then finds in it, and waits for, the last backends of a killed server.
    """
    file = pgdata / "postmaster.pid"
    if not file.exists():
        return
    pid = file.read_text().partition("\n")[0]
    if not Path("/proc", pid).exists() or any(_stands_in(int(p.name), pgdata) for p in Path("/proc").glob("[0-9]*")):
        return
    file.unlink()


def answers(server: Postmaster) -> bool:
    """Whether the server says it is ready and its socket takes a connection."""
    if not server.ready:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(server.socket_dir / _SOCKET_NAME))
        except OSError:
            return False
    return True


def create(pgdata: Path, programs: Path, account: Account | None, *, durable: bool) -> None:
    """Make the folder with role and database `museway`. It gets its name last: a run that is killed half-way leaves a
    `.partial` that the next run throws away. Without `durable` nothing is flushed to disk (for throw-away servers)."""
    partial = pgdata.with_name(pgdata.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if account is not None:
        os.chown(partial, account.uid, account.gid)
    sync = ["--sync-method=syncfs"] if durable else ["--no-sync"]
    folder = ["-D", str(partial)]
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    options = ["-U", ROLE, "-A", "trust", "--data-checksums", "--no-instructions"]
    _run([str(programs / "initdb"), *folder, *options, *locale, *sync], account)
    unsynced = [] if durable else ["-F"]
    single = [str(programs / "postgres"), "--single", *folder, *unsynced, "template1"]
    _run(single, account, stdin=f"CREATE DATABASE {DATABASE}\n")
    partial.rename(pgdata)


def _run(command: list[str], account: Account | None, stdin: str = "") -> None:
    name = Path(command[0]).name
    try:
        subprocess.run(
            command,
            check=True,
            input=stdin,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=120,
            env=environment(),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        raise EmbeddedPostgresError(f"{name} failed: {said[-1] if said else error}") from error
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresError(f"{name} took longer than {error.timeout:.0f} s") from error


def environment() -> dict[str, str]:
    """What PostgreSQL's programs see: nothing of ours, so that no PGDATA, PGUSER or secret of the caller leaks in."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}


def socket_folder(pgdata: Path, account: Account | None) -> Path:
    """Where the server listens: `pgdata` itself (0700, so only its user and root come in), or, where that path is too
    long for a unix socket, a short folder of the same kind under /tmp.

    Raises EmbeddedPostgresError where somebody else made that folder first.
    """
    if len(os.fsencode(pgdata / _SOCKET_NAME)) <= _SOCKET_PATH_MAX:
        return pgdata
    short = Path("/tmp") / f"museway-{hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]}"
    owner = os.geteuid() if account is None else account.uid
    try:
        short.mkdir(mode=0o700)
        if account is not None:
            os.chown(short, account.uid, account.gid)
    except FileExistsError:
        pass
    status = short.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or stat.S_IMODE(status.st_mode) != 0o700:
        raise EmbeddedPostgresError(f"{short} exists and is not ours; remove it or use a shorter data directory")
    return short
