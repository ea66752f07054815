"""What users of other systems met is impossible here: each row's test fails when its bug is brought back."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from faults.mutate import HERE, ROOT, Copy, Row, copied, missed, mutant, replaced, rows
from faults.scale import scaled

pytestmark = [pytest.mark.faults, pytest.mark.timeout(scaled(180, 400))]

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
IN_CI = {"posted-twice", "refused-takes"}
"""Mutants whose tests take a second or two; `make chaos` runs all."""

QUICK = "tests/platform/limits/test_rates.py"


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    with copied() as made:
        yield made


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.mutant)
def test_the_row_names_a_test_and_a_line(row: Row) -> None:
    path, name = row.test.split("::")
    functions = (node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, FUNCTION))
    assert name.partition("[")[0] in {node.name for node in functions}
    wanted = mutant(row.mutant)
    assert replaced(wanted, (ROOT / wanted.file).read_text())


def test_every_mutant_has_a_row() -> None:
    assert {path.stem for path in (HERE / "mutants").glob("*.toml")} == {row.mutant for row in rows()}


@pytest.mark.parametrize("path", scaled([QUICK], sorted({row.test.partition("::")[0] for row in rows()})))
def test_as_the_tree_is_they_pass(copy: Copy, path: str) -> None:
    """Else that one fails on a mutant would say nothing."""
    done = copy.run(sorted({row.test for row in rows() if row.test.startswith(path)}))
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("name", [row.mutant for row in rows() if scaled(row.mutant in IN_CI, True)])
def test_a_mutant_is_caught(copy: Copy, name: str) -> None:
    (row,) = [row for row in rows() if row.mutant == name]
    assert not (problem := missed(copy, row)), problem
