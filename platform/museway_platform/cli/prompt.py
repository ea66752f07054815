"""How a command meets its user: arguments, one-line errors, exit statuses, an orderly end on a signal.

Exit statuses: 0 done, 1 failed (or what was checked does not hold), 2 wrong arguments or settings, 130 interrupted.
Results go to standard output, all else to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, NoReturn

Run = Callable[[argparse.Namespace], int]

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class Failure(Exception):
    """Ends a command: one line for the user, and a status. Raised where the command's own code sees the cause."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        self.status = status
        super().__init__(message)


class Parser(argparse.ArgumentParser):
    """argparse with `museway NAME` in front; refusals are one line that says where help is."""

    def __init__(self, command: str, about: str, *, prog: str | None = None) -> None:
        """`prog` is argparse's own word for the same, which it gives to the parsers of verbs."""
        super().__init__(
            prog=prog or f"museway {command}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message} (see {self.prog} --help)", MISUSED)

    def with_json(self) -> Parser:
        self.add_argument("--json", action="store_true", help="JSON instead of a table")
        return self

    def actions(self) -> Actions:
        """For a command of several verbs, each a parser of its own."""
        return Actions(self)


class Actions:
    """The verbs of a command such as `museway keys`."""

    def __init__(self, parser: Parser) -> None:
        self._verbs = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(self, verb: str, run: Callable[..., Any], about: str) -> Parser:
        """A verb, with `--json`; `args.run` is then `run`, which its command knows how to call."""
        parser: Parser = self._verbs.add_parser(verb, help=about, command=verb, about=about)
        parser.set_defaults(run=run)
        return parser.with_json()


def answer(parser: Parser, argv: Sequence[str], run: Run) -> int:
    """Parse, run, and turn what is expected to go wrong into one line on standard error and a status."""
    try:
        args = parser.parse_args(argv)
        with termination_as_interrupt():
            return run(args)
    except KeyboardInterrupt:
        complain(f"{parser.prog}: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain once more when it flushes at exit.
        sys.stderr.close()
        return 0
    except Failure as failure:
        complain(f"{parser.prog}: {failure}")
        return failure.status
    except expected() as error:
        complain(f"{parser.prog}: {' '.join(str(error).split()) or type(error).__name__}")
        return MISUSED if type(error).__name__ == "SettingsError" else FAILED


def expected() -> tuple[type[Exception], ...]:
    """Exceptions whose text is written for a person. Imported only when something was raised."""
    from museway_engine.runtime.install import InstallFailed
    from museway_engine.runtime.launch import PortTaken, StartTimeout, WorkerDied
    from museway_platform.database.binaries import EmbeddedPostgresError
    from museway_platform.database.migrate import MigrationError
    from museway_platform.settings import SettingsError

    return (SettingsError, EmbeddedPostgresError, MigrationError, InstallFailed, PortTaken, StartTimeout, WorkerDied)


def complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def termination_as_interrupt() -> Generator[None]:
    """SIGTERM and SIGHUP end a command as ^C does, so that there is one way out and it stops everything."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A shell lets its background jobs ignore ^C; the way out has to be there all the same.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
