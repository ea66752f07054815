"""The repository's own files, as the house rules see them."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "museway_platform": ROOT / "platform" / "museway_platform",
    "museway_engine": ROOT / "engine" / "museway_engine",
    "museway_billing": ROOT / "billing" / "museway_billing",
    "museway": ROOT / "sdk" / "museway",
}
_FOLDERS = (".ci", "billing", "engine", "infra", "platform", "sdk", "tests")
_PASSED_OVER = {"__pycache__", "node_modules", "build", "dist"}

# Written before Museway, or by a program: kept as they are.
ADOPTED = ("engine/museway_engine/runtime/make_model.py", "engine/museway_engine/runtime/sglang_cpu/")
_GENERATED = re.compile(r"\bgenerated\b.*\b(by|from)\b|do not edit", re.IGNORECASE)
_ALLOWED = re.compile(r"# tidy: allow (?P<rule>[a-z-]+): \S.{9,}")


class Source(Struct, frozen=True):
    """One Python file. `name` is its path from the repository's root."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def generated(self) -> bool:
        """Its first lines say so."""
        return _GENERATED.search("\n".join(self.lines[:5])) is not None

    @property
    def adopted(self) -> bool:
        return self.name.startswith(ADOPTED)

    @property
    def package(self) -> str | None:
        """The importable package that it belongs to; None for tests and tools."""
        parts = self.name.split("/")
        return parts[1] if len(parts) > 2 and parts[1] in PACKAGES else None

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)

    def excuses(self, line: int, rule: str) -> bool:
        """Whether the line, or the one above it, has `# tidy: allow RULE: a reason of some words`."""
        return any(
            (match := _ALLOWED.search(self.lines[number - 1])) is not None and match["rule"] == rule
            for number in (line, line - 1)
            if number >= 1
        )


@functools.cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def python() -> tuple[Source, ...]:
    """Every Python file, in the order of names."""
    return tuple(Source(name=_name(path), text=path.read_text()) for path in files() if path.suffix == ".py")


def product() -> list[Source]:
    """What is shipped and written by hand."""
    return [source for source in python() if source.package and not source.generated and not source.adopted]


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file that is ours, tracked or not."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    below = [path for folder in _FOLDERS for path in _walk(ROOT / folder)]
    return tuple(sorted(top + below))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name not in _PASSED_OVER and not name.startswith(".") and not name.endswith(".egg-info")
        ]
        yield from (Path(parent, name) for name in names if not name.endswith((".pyc", ".so", ".o")))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    """The file as text; empty for one that is not."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
