"""House rules about single lines of Python: each looks at one syntax tree and names the lines that break it.

A line that must break one says so itself: `# tidy: allow RULE: why this is right here`, on it or above it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from tidy.sources import Source


class Rule(Struct, frozen=True, kw_only=True):
    """`applies` says to which files, `find` gives the lines. `bad` breaks the rule, `good` does not: the rule's own test."""

    name: str
    why: str
    applies: Callable[[Source], bool]
    find: Callable[[ast.Module], Iterator[int]]
    bad: tuple[str, ...]
    good: tuple[str, ...]


def violations(rule: Rule, source: Source) -> list[str]:
    """`path:line: the line` for each."""
    return [
        f"{source.name}:{line}: {source.lines[line - 1].strip()}"
        for line in rule.find(source.tree)
        if not source.excuses(line, rule.name)
    ]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _dotted(node: ast.expr) -> str:
    """`asyncio.sleep` for the expression that reads so; `…` stands for what is neither name nor attribute."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return f"{_dotted(node.func)}()" if isinstance(node, ast.Call) else "…"


# -- SQL
_SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|select\s+[a-z_.]+\(|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|listen\s+[a-z_]+\s*$"
    r"|(create|alter|drop)\s+(table|schema|index|database|role)\s|with\s+\w+\s+as\s*\()",
    re.IGNORECASE | re.DOTALL,
)


def _docstrings(tree: ast.Module) -> set[int]:
    """The ids of bare string expressions: docstrings, and comments in that form."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _sql(tree: ast.Module) -> Iterator[int]:
    told = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in told and _SQL.match(node.value):
                yield node.lineno


def _may_hold_sql(source: Source) -> bool:
    return source.name.endswith("/store.py") or "/database/" in source.name


# -- money
_PATH_LIKE = re.compile(r"(path|home|folder|directory|parent|root|aside)$")


def _joins_paths(node: ast.AST) -> bool:
    """`home / "slots"`: no number is divided by a text, and none is called a path."""
    if not isinstance(node, ast.BinOp):
        return False
    text = isinstance(node.right, ast.JoinedStr) or (
        isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
    )
    return text or _PATH_LIKE.search(_dotted(node.left)) is not None


def _floats(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            if not _joins_paths(node):
                yield node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno
        elif isinstance(node, ast.Name) and node.id in {"float", "round"}:
            yield node.lineno


# -- waiting and tasks
_SLEEPS = {"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep", "sleep"}


def _sleeps(tree: ast.Module) -> Iterator[int]:
    for call in _calls(tree):
        yields = len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
        if _dotted(call.func) in _SLEEPS and not yields:
            yield call.lineno


def _is_test(source: Source) -> bool:
    """Doubles and benches pace themselves: that is their trade, and nobody waits for it."""
    return source.name.startswith("tests/") and not source.name.startswith(("tests/doubles/", "tests/bench/"))


# Here an owner is built: the file's own text says who cancels and who awaits.
_TASK_OWNERS = (
    "engine/museway_engine/lifetimes.py",
    "platform/museway_platform/serving/lifetimes.py",
    "platform/museway_platform/api/connection.py",
    "platform/museway_platform/gateway.py",
)


def _ownerless(tree: ast.Module) -> Iterator[int]:
    for call in _calls(tree):
        owner, _, verb = _dotted(call.func).rpartition(".")
        if verb == "ensure_future" or (verb == "create_task" and (owner in {"", "asyncio"} or "loop" in owner)):
            yield call.lineno


# -- settings and words
def _environment(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in {"os.environ", "os.getenv", "os.putenv"}:
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            if {alias.name for alias in node.names} & {"environ", "getenv", "putenv"}:
                yield node.lineno


def _reads_no_environment(source: Source) -> bool:
    """Who starts other programs hands them an environment (engine/runtime); an SDK has its two variables."""
    return source.package in {"museway_platform", "museway_billing", "museway_engine"} and not (
        source.name == "platform/museway_platform/settings.py" or "/runtime/" in source.name
    )


def _mocks(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("unittest.mock", "mock")):
            yield node.lineno
        elif isinstance(node, ast.Import) and any(alias.name in {"unittest.mock", "mock"} for alias in node.names):
            yield node.lineno


def _given_up(tree: ast.Module) -> Iterator[int]:
    names = {"pytest.skip", "pytest.xfail", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in names:
            yield node.lineno


def _hidden_cycles(tree: ast.Module) -> Iterator[int]:
    """Under TYPE_CHECKING, what is not also imported in a function of the file: that would be an import put off."""
    put_off = {
        inner.module
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and _dotted(node.test).endswith("TYPE_CHECKING"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith("museway"):
                    if inner.module not in put_off:
                        yield inner.lineno


RULES = (
    Rule(
        name="sql",
        why="SQL stands in files named store.py, which take a connection and never commit, and in database/",
        applies=lambda source: source.package in {"museway_platform", "museway_billing"} and not _may_hold_sql(source),
        find=_sql,
        bad=(
            "q = 'SELECT id FROM usage WHERE id = $1'",
            "q = f'insert into {table} values ($1)'",
            "q = 'LISTEN money'",
        ),
        good=("'''Select a worker from the pool.'''", "title = 'Update the price book'"),
    ),
    Rule(
        name="float",
        why="money is integers: no float, no round, no / in billing",
        applies=lambda source: source.package == "museway_billing",
        find=_floats,
        bad=("x = a / b", "x = 0.5", "x = float(a)", "x = round(a)", "x /= 2"),
        good=("x = a // b", "x: int = 5", "x = home / 'slots'", "x = self.path / name"),
    ),
    Rule(
        name="sleep",
        why="a test waits for an event with a deadline; a sleep is too short on a slow day and too long on all others",
        applies=_is_test,
        find=_sleeps,
        bad=("import time\ntime.sleep(0.1)", "async def f(): await asyncio.sleep(1)"),
        good=("async def f(): await asyncio.sleep(0)", "async def f(): await anyio.sleep_forever()"),
    ),
    Rule(
        name="task",
        why="a task without an owner dies unseen: use a task group, or say who cancels and awaits it",
        applies=lambda source: source.package is not None and source.name not in _TASK_OWNERS,
        find=_ownerless,
        bad=("asyncio.create_task(f())", "asyncio.get_running_loop().create_task(f())", "asyncio.ensure_future(f())"),
        good=("tg.create_task(f())", "self._tasks.create_task(f())"),
    ),
    Rule(
        name="environment",
        why="only settings.py reads the environment; parts are handed the values they need",
        applies=_reads_no_environment,
        find=_environment,
        bad=("import os\nx = os.environ['HOME']", "x = os.getenv('X')", "from os import environ"),
        good=("import os\nx = os.getpid()",),
    ),
    Rule(
        name="mock",
        why="a mock of our own class tests the mock",
        applies=lambda source: source.name.startswith("tests/"),
        find=_mocks,
        bad=("from unittest.mock import Mock", "import unittest.mock"),
        good=("import unittest",),
    ),
    Rule(
        name="skip",
        why="a test that does not run proves nothing",
        applies=lambda source: source.name.startswith("tests/"),
        find=_given_up,
        bad=(
            "@pytest.mark.skip\ndef test(): ...",
            "def test(): pytest.skip('later')",
            "x = pytest.mark.xfail(strict=True)",
        ),
        good=("@pytest.mark.engine\ndef test(): ...",),
    ),
    Rule(
        name="cycle",
        why="a TYPE_CHECKING import of our own modules hides a cycle (the SDK puts off imports for its start-up time)",
        applies=lambda source: source.package not in {None, "museway"},
        find=_hidden_cycles,
        bad=("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from museway_engine.rid import Rid",),
        good=("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from collections.abc import Iterator",),
    ),
)
