"""Brings back a bug that users of others met, in a copy of the tree, and asks the test that should know.

    python -m faults.mutate                 # all rows of pains.toml
    python -m faults.mutate toctou leak     # these mutants

A mutant is a replacement of text that stands exactly once in its file (`mutants/<name>.toml`). The test must fail; that it
passes on the tree as it is, the suite itself shows. A mutant whose text is gone is an error: somebody changed the line that
keeps the bug out, and has to say where it is kept out now.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("platform", "engine", "billing", "sdk")
FAILED = 1
"""pytest's own status for "tests ran and some failed"; another one says nothing about the mutant."""
_LIMIT_S = 300


class Row(Struct, frozen=True, kw_only=True):
    """One row of what users of other systems suffered (`row`: its number there). `test`: as pytest names it."""

    row: int
    met: str
    test: str
    mutant: str


class Mutant(Struct, frozen=True, kw_only=True):
    """`brings_back`: the bug, in a line. `old` stands once in `file`."""

    brings_back: str
    file: str
    old: str
    new: str


@cache
def rows() -> tuple[Row, ...]:
    return msgspec.convert(tomllib.loads((HERE / "pains.toml").read_text())["rows"], tuple[Row, ...])


def mutant(name: str) -> Mutant:
    return msgspec.convert(tomllib.loads((HERE / "mutants" / f"{name}.toml").read_text()), Mutant)


class Copy:
    """A copy of the tree with an environment in which its packages go before the installed ones."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tree"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.path / name)
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        (packages,) = environment.glob("lib/python*/site-packages")
        installed = (path for path in sys.path if path.endswith("site-packages"))
        lines = [*(str(self.path / name) for name in PACKAGES), *installed]
        (packages / "copy.pth").write_text("\n".join(lines) + "\n")

    @contextmanager
    def mutated(self, wanted: Mutant) -> Generator[None]:
        file = self.path / wanted.file
        before = file.read_text()
        file.write_text(replaced(wanted, before))
        try:
            yield
        finally:
            file.write_text(before)

    def run(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A child pytest over the copy, with the small counts of an ordinary run."""
        command = [self.python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHAOS", "PYTEST"))}
        return subprocess.run(
            command,
            cwd=self.path,
            env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )


def replaced(wanted: Mutant, text: str) -> str:
    """Raises ValueError where the text to replace is not there, or not there alone."""
    if (found := text.count(wanted.old)) != 1:
        raise ValueError(f"{wanted.file}: the text that keeps the bug out stands there {found} times: {wanted.old!r}")
    return text.replace(wanted.old, wanted.new)


@contextmanager
def copied() -> Generator[Copy]:
    folder = Path(tempfile.mkdtemp(prefix="museway-mutants-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user when we are root
    try:
        yield Copy(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def missed(copy: Copy, row: Row) -> str:
    """Why the bug would get past its test; empty where it is caught."""
    with copy.mutated(mutant(row.mutant)):
        done = copy.run([row.test])
    if done.returncode == FAILED:
        return ""
    why = "passes" if done.returncode == 0 else f"did not run (status {done.returncode})"
    return f"{row.mutant}: {row.test} {why}\n{done.stdout[-2000:]}"


def main() -> int:
    """Run the mutants that are named, or all."""
    wanted = set(sys.argv[1:])
    escaped = 0
    with copied() as copy:
        for row in rows():
            if not wanted or row.mutant in wanted:
                problem = missed(copy, row)
                escaped += bool(problem)
                print(problem or f"caught: {row.mutant} ({mutant(row.mutant).brings_back})", flush=True)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
