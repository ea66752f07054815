"""Every shipped module can be reached from something that is started."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tidy.sources import PACKAGES, ROOT, Source, python

_DOTTED = re.compile(r"museway\w*(\.\w+)+")

# Started by name, not by an import: console script, entry point, `python -m`, an ASGI server, a file run by path.
_STARTED = (
    "museway",
    "museway.cli",
    "museway_platform.__main__",
    "museway_platform.cli",
    "museway_platform.cli.server_worker",
    "museway_platform.gateway",
    "museway_platform.api.openapi",
    "museway_platform.database.migrate",
    "museway_engine.runtime.guard",
    "museway_engine.runtime.make_model",
    "museway_engine.runtime.sglang_cpu.launch",
)


def test_no_module_is_dead() -> None:
    modules = {_module(source): source for source in python() if source.package}
    pending, reached = [name for name in _STARTED if name in modules], set[str]()
    while pending:
        name = pending.pop()
        if name in reached or name not in modules:
            continue
        reached.add(name)
        pending += _imported(name, modules[name])
    dead = sorted(
        name for name, source in modules.items() if name not in reached and source.text.strip() and not source.adopted
    )
    assert not dead, f"imported by nothing that is started: {dead}"


def _module(source: Source) -> str:
    dotted = source.name.removesuffix(".py").split("/", 1)[1].replace("/", ".")
    return dotted.removesuffix(".__init__")


def _imported(module: str, source: Source) -> Iterator[str]:
    """The modules that this one may bring, parent packages too. A module's dotted name in a string counts: commands are
    imported when they run."""
    is_package = source.name.endswith("/__init__.py")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node, is_package=is_package)
            yield from _with_parents(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            yield from _with_parents(node.value)


def _origin(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, node.module] if node.module else kept)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def test_the_roots_exist() -> None:
    modules = {_module(source) for source in python() if source.package}
    assert set(_STARTED) <= modules, set(_STARTED) - modules
    assert all(folder.is_relative_to(ROOT) for folder in PACKAGES.values())
