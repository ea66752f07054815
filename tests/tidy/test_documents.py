"""What the documents say is there is there."""

from __future__ import annotations

import re
import subprocess

import pytest

from tidy.sources import ROOT

_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
_PATH = re.compile(r"`((?:platform|engine|billing|sdk|tests|infra)/[\w./@-]+[\w])`")
_MAKE = re.compile(r"\bmake ([a-z][a-z-]*)\b")
_COMMAND = re.compile(r"^museway ([a-z]+)\b", re.MULTILINE)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/decisions/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_points_to_what_exists(document: object) -> None:
    path = ROOT / str(document)
    text = path.read_text()
    links = [(path.parent / target).exists() or target for target in _LINK.findall(text)]
    paths = [(ROOT / target).exists() or target for target in _PATH.findall(text) if "…" not in target]
    missing = [target for target in links + paths if target is not True]
    assert not missing, missing


def _targets() -> set[str]:
    made = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^ +make ([a-z-]+)", made, re.MULTILINE)) | {"contracts", "tidy"}


def test_the_readme_has_two_commands_for_set_up() -> None:
    section = (ROOT / "README.md").read_text().split("## Set-up")[1].split("\n## ")[0]
    block = section.split("```sh\n")[1].split("```")[0]
    assert [line.split("#")[0].strip() for line in block.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_that_are_named_exist(name: str) -> None:
    named = set(_MAKE.findall("\n".join(_code((ROOT / name).read_text()))))
    assert named and named <= _targets(), named - _targets()


def test_every_target_is_explained_or_part_of_one_that_is() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    rules = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert phony == rules
    assert phony - _targets() <= {"lint", "types", "generated"}


def test_commands_that_are_named_exist() -> None:
    from museway.cli.command import GROUP
    from museway_platform.cli import commands

    assert GROUP in (ROOT / "pyproject.toml").read_text()
    named = set(_COMMAND.findall("\n".join(_code((ROOT / "README.md").read_text()))))
    assert named and named <= set(commands()), named - set(commands())


def test_the_changelog_has_unreleased_on_top() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_ci_runs_make_test_and_nothing_weaker() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^\s*make .*$", script, re.MULTILINE) == ['make test 2>&1 | tee "$log"']
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("\ntest: ")[1].split("\n\n")[0]
    assert (
        "check" in recipe.splitlines()[0] and "pytest" in recipe and " -m " not in recipe and "--deselect" not in recipe
    )


def _code(text: str) -> list[str]:
    """What stands in backticks or in a fenced block: words outside may be prose."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [*fenced, *inline]
