"""A real PostgreSQL as a child of ours: it dies with us, serves one data folder, and is shared by commands beside it.

Two locks in the data directory say who does what. `postgres.lock` is held exclusively by the process whose child serves.
`postgres.users` is held shared by every command that borrows that server, so that the owner does not stop it under them.
Both are `flock`s: the kernel frees them when a process dies, however it dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

from museway_platform.database import cluster
from museway_platform.database.binaries import Account, EmbeddedPostgresError, programs, reachable, unprivileged_account

_POLL_S = 0.02
_LOG_BYTES_MAX = 10_000_000
_PR_SET_PDEATHSIG = 1
_SERVER_OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "log_min_messages": "warning",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
_THROW_AWAY_OPTIONS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off"}


def connect_existing(data_dir: Path) -> str | None:
    """The DSN of the server that another process runs on `data_dir`, None where none answers now.

    This does not keep that server alive: a command that must not lose it uses `EmbeddedPostgres.borrow_or_start`.
    """
    server = cluster.postmaster(data_dir.resolve() / "pgdata")
    if server is None or not cluster.answers(server):
        return None
    return cluster.dsn(server.socket_dir)


class EmbeddedPostgres:
    """One server on `data_dir`. All methods block; `running` is the form for asyncio.

    `durable=False` gives up crash safety for speed, for servers of tests. The files hold no password: who may enter the
    0700 folder of the socket (the server's user and root) is trusted, so a service account needs its own data directory.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._root = data_dir.resolve()
        self._pgdata = self._root / "pgdata"
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._users: IO[bytes] | None = None
        self._dsn = ""

    @property
    def dsn(self) -> str:
        """Where the server listens. Only after `start` or `borrow_or_start`."""
        assert self._dsn, "the server was not started"
        return self._dsn

    @property
    def owned(self) -> bool:
        """Whether the server is our child (and ends with us) or borrowed."""
        return self._process is not None

    def start(self, timeout_s: float = 60.0) -> str:
        """Serve `data_dir` from a child of ours and return its DSN; waits while another process serves it.

        The child dies with the *thread* that calls this (`PR_SET_PDEATHSIG`), so call it from one that lives as long.
        Raises EmbeddedPostgresError after `timeout_s`, and where the data directory cannot be used.
        """
        deadline = time.monotonic() + timeout_s
        self._prepare()
        self._own(deadline)
        try:
            self._serve(deadline)
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def borrow_or_start(self, timeout_s: float = 60.0) -> str:
        """Use the server that another process runs on `data_dir`, or start one where there is none: what every command
        beside a running `up` does. `stop` then only lets go."""
        deadline = time.monotonic() + timeout_s
        self._prepare()
        self._users = _open_lock(self._root / "postgres.users")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        while True:
            if dsn := connect_existing(self._root):
                self._dsn = dsn
                return dsn
            if self._try_own():
                break
            _tick(deadline, f"another process holds {self._root} and its PostgreSQL does not answer")
        self._return_loan()
        try:
            self._serve(deadline)
        except BaseException:
            self.stop()
            raise
        return self.dsn

    def stop(self, patience_s: float = 10.0) -> None:
        """End our child by a fast shutdown (open transactions are rolled back), after waiting up to `patience_s` for
        the commands that borrow it; or let go of a borrowed one. Twice is harmless."""
        self._return_loan()
        process, self._process = self._process, None
        if process is not None:
            self._wait_for_users(patience_s)
            _end(process)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._dsn = ""

    @classmethod
    @asynccontextmanager
    async def running(cls, data_dir: Path, *, durable: bool = True) -> AsyncGenerator[EmbeddedPostgres]:
        """`start` … `stop` from asyncio, in one thread that lives as long as the server must."""
        server = cls(data_dir, durable=durable)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres") as thread:
            loop = asyncio.get_running_loop()
            start = loop.run_in_executor(thread, server.start)
            try:
                await asyncio.shield(start)
                yield server
            finally:
                await loop.run_in_executor(thread, server.stop)

    def _prepare(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        self._account: Account | None = unprivileged_account()
        if self._account is None:
            return
        self._root.chmod(0o711)  # root's folder, which the server's user must pass through and not list
        if not reachable(self._root, self._account.uid):
            raise EmbeddedPostgresError(
                f"{self._root} is below a folder that only root may enter; set MUSEWAY_DATA_DIR to another one"
            )

    def _try_own(self) -> bool:
        lock = _open_lock(self._root / "postgres.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _own(self, deadline: float) -> None:
        while not self._try_own():
            _tick(deadline, f"another process serves {self._root}; stop it or choose another data directory")

    def _serve(self, deadline: float) -> None:
        """Under the lock: end an orphan, make the data folder if it is new, start until the server is ready."""
        bin_dir = programs(self._root, self._account)
        if not (self._pgdata / "PG_VERSION").exists():
            cluster.create(self._pgdata, bin_dir, self._account, durable=self._durable)
        self._end_orphan(deadline)
        cluster.forget_crashed(self._pgdata)
        socket_dir = cluster.socket_folder(self._pgdata, self._account)
        log = self._root / "postgres.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        begins = 0
        while True:
            if self._process is None or self._process.poll() is not None:
                if self._process is not None and not _may_pass(_last_words(log, begins)):
                    break
                begins = log.stat().st_size if log.exists() else 0
                self._process = self._spawn(bin_dir, socket_dir, log)
            server = cluster.postmaster(self._pgdata)
            if server is not None and server.pid == self._process.pid and cluster.answers(server):
                self._dsn = cluster.dsn(socket_dir)
                return
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        raise EmbeddedPostgresError(f"PostgreSQL does not start: {_last_words(log, begins)} (see {log})")

    def _end_orphan(self, deadline: float) -> None:
        """A server whose owner is dead is about to get its signal; it is ended rather than used, for it would go at
        any moment. The kernel frees the owner's flock a moment before it sends that signal."""
        while (server := cluster.postmaster(self._pgdata)) is not None:
            try:
                os.kill(server.pid, signal.SIGINT)
            except ProcessLookupError:
                return
            _tick(deadline, f"PostgreSQL (process {server.pid}) of an owner that died does not stop")

    def _spawn(self, bin_dir: Path, socket_dir: Path, log: Path) -> subprocess.Popen[bytes]:
        options = _SERVER_OPTIONS | ({} if self._durable else _THROW_AWAY_OPTIONS)
        settings = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        account = self._account
        with log.open("ab") as output:
            return subprocess.Popen(
                [bin_dir / "postgres", "-D", self._pgdata, "-k", socket_dir, *settings],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=cluster.environment(),
                start_new_session=True,  # a terminal's Ctrl-C is ours to act on, in order
                preexec_fn=_die_with_parent(),  # runs after the change of user, which would clear the signal
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )

    def _wait_for_users(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        with _open_lock(self._root / "postgres.users") as users:
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_POLL_S)
                else:
                    return

    def _return_loan(self) -> None:
        if self._users is not None:
            self._users.close()
            self._users = None


def _open_lock(path: Path) -> IO[bytes]:
    return path.open("ab")


def _tick(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedPostgresError(problem)
    time.sleep(_POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    for how, patience_s in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
        process.send_signal(how)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
        return


def _may_pass(said: str) -> bool:
    """Whether a server that ended with these words may start when it is tried again: a postmaster that was just killed
    leaves its shared memory to its dying backends for a while."""
    return "shared memory" in said or "lock file" in said


def _last_words(log: Path, since: int) -> str:
    """Why the server that wrote from byte `since` on ended; or what it said last."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").strip().splitlines()
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    return (fatal or lines or ["it said nothing"])[-1]


def _die_with_parent() -> Callable[[], None] | None:
    """What the child does between fork and exec: one system call, found before the fork, since a loader's lock held by
    another of our threads at the fork would stay held for ever in the child. Elsewhere than on Linux a parent that is
    killed leaves an orphan, which the next `start` ends."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it died before the signal was armed
            os._exit(1)

    return arm


def remove(data_dir: Path) -> None:
    """Delete a throw-away data directory, with the short socket folder it may have. The server must be stopped."""
    pgdata = data_dir.resolve() / "pgdata"
    if pgdata.exists() and (folder := cluster.socket_folder(pgdata, unprivileged_account())) != pgdata:
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
