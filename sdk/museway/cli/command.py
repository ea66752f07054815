"""The contract between the console script `museway` and every package that adds sub-commands to it.

A distribution registers an entry point in the group `museway.commands`:

    entry-points."museway.commands".server = "museway_platform.cli:commands"

It names a callable without arguments that gives a mapping of sub-command → `Command`. The script calls it for `--help`
and for a sub-command that it does not know itself, so it must be cheap: build the parsers and import what is heavy in `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

GROUP: Final = "museway.commands"


class Command(Protocol):
    """One sub-command."""

    @property
    def help(self) -> str:
        """One line without a full stop, shown by `museway --help`."""
        ...

    def run(self, argv: Sequence[str]) -> int:
        """Do it with the arguments after the sub-command's name; the exit status. 2 where the arguments are wrong.

        May raise SystemExit (argparse does) and KeyboardInterrupt (the script then exits 130 without a traceback).
        """
        ...


Commands = Callable[[], Mapping[str, Command]]
"""What an entry point of `GROUP` names."""
