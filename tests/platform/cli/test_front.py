"""The front: nothing is imported before its command runs, every command explains itself, errors are one line."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from museway.cli.dispatch import main
from museway_platform.cli import Lazy, commands
from museway_platform.cli.prompt import Failure, Parser, answer

_COMMANDS: Mapping[str, Lazy] = commands()
_HEAVY = ("litestar", "asyncpg", "rich", "httpx2", "msgspec", "cryptography", "museway_engine", "museway_billing")


def _imported_by(program: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.split())


def test_listing_the_commands_imports_none_of_them() -> None:
    loaded = _imported_by("from museway_platform.cli import commands; commands()")
    assert not loaded & set(_HEAVY)


def test_help_imports_nothing_heavy() -> None:
    """Which is why it takes a tenth of a second (measured, not asserted: machines differ)."""
    loaded = _imported_by("from museway.cli.dispatch import main; main(['--help'])")
    assert not loaded & {"litestar", "asyncpg", "rich", "httpx2", "cryptography", "museway_billing"}


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_command_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(_COMMANDS[name].module).main)
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: museway {name}") and "Exit status" not in _COMMANDS[name].help


@pytest.mark.parametrize("name", _COMMANDS)
def test_an_unknown_argument_is_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--no-such-argument"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"museway {name}" in said and "--help" in said


def _ends(work: Callable[[], int]) -> int:
    return answer(Parser("test", "A test."), [], lambda _: work())


def test_a_failure_is_its_line_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise Failure("no such thing", 1)

    assert _ends(fail) == 1
    assert capsys.readouterr().err == "museway test: no such thing\n"


def test_what_was_not_expected_is_not_hidden() -> None:
    def break_down() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ends(break_down)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    program = "from museway.cli.dispatch import main; import sys; sys.exit(main(['openapi']))"
    shell = f'"{sys.executable}" -c "{program}" | head -c 20 > /dev/null; exit "${{PIPESTATUS[0]}}"'
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert ended.stderr == ""
