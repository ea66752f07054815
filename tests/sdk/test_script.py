"""The console script: which command runs, what it says, what status it leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from doubles.scripted_server import ScriptedServer, refusal, stream
from museway import __version__
from museway.cli import dispatch
from museway.cli.command import Command


class Echo:
    help = "Say the arguments"

    def run(self, argv: Sequence[str]) -> int:
        if argv == ["interrupt"]:
            raise KeyboardInterrupt
        print(*argv)
        return 7


def found() -> Mapping[str, Command]:
    return {"echo": Echo(), "ask": Echo()}


def broken() -> Mapping[str, Command]:
    raise ImportError("no module named museway_something")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*argv: str, commands: Callable[[], Mapping[str, Command]] = found) -> tuple[int, str, str]:
        status = dispatch.main(argv, [commands])
        out, err = capsys.readouterr()
        return status, out, err

    return run


Run = Callable[..., tuple[int, str, str]]


def test_a_command_of_another_package(run: Run) -> None:
    assert run("echo", "--help", "x") == (7, "--help x\n", "")


def test_help_lists_commands_of_all_packages(run: Run) -> None:
    for argv in ([], ["--help"], ["-h"], ["help"]):
        status, out, err = run(*argv)
        assert (status, err) == (0, "")
        assert "  ask   Ask the model one question\n" in out, "our own commands are never replaced"
        assert "  echo  Say the arguments\n" in out


def test_help_of_one(run: Run) -> None:
    assert run("help", "echo") == (7, "--help\n", "")


def test_an_unknown_command(run: Run) -> None:
    status, out, err = run("ecko")
    assert (status, out) == (2, "")
    assert err == "museway: there is no command 'ecko'. Did you mean 'echo'? See museway --help.\n"
    assert run("zzzz")[2] == "museway: there is no command 'zzzz'. See museway --help.\n"


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"museway {__version__}\n", "")


def test_a_package_that_is_broken_costs_its_commands(run: Run) -> None:
    status, out, err = run("--help", commands=broken)
    assert status == 0
    assert "ask" in out
    assert "can't be loaded: no module named museway_something" in err


def test_interrupted(run: Run) -> None:
    assert run("echo", "interrupt")[0] == 130


def ask(server: ScriptedServer, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"MUSEWAY_API_KEY": "mw_k", "MUSEWAY_BASE_URL": server.url}
    command = [sys.executable, "-c", "import sys; from museway.cli import main; sys.exit(main())", "ask", *argv]
    return subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=60
    )


ANSWER = b'data: {"choices":[{"index":0,"delta":{"content":"42"}}]}\n\ndata: [DONE]\n\n'


def test_ask(server: ScriptedServer) -> None:
    server.script(stream(ANSWER), stream(ANSWER))
    done = ask(server, "six", "times", "seven?", "--mode", "thinking", "--max-tokens", "9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    assert server.heard[0].json["messages"] == [{"role": "user", "content": "six times seven?"}]
    assert server.heard[0].json["mode"] == "thinking"
    assert ask(server, stdin="from a pipe").stdout == "42\n"
    assert server.heard[1].json["messages"][0]["content"] == "from a pipe"


def test_ask_says_errors_in_one_line(server: ScriptedServer) -> None:
    server.script(refusal(401, "invalid_api_key", "authentication_error"))
    done = ask(server, "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "museway ask: It is invalid_api_key. (req_9)\n"
    assert ask(server).returncode == 2
