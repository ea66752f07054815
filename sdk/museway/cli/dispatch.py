"""Finds the sub-command of `museway` and runs it. Commands of other packages come by entry points (`command`)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from museway._version import __version__
from museway.cli.ask import Ask
from museway.cli.command import GROUP, Command, Commands

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130

OWN: Final[Mapping[str, Command]] = {"ask": Ask()}


def main(argv: Sequence[str] | None = None, sources: Iterable[Commands] | None = None) -> int:
    """Run the script; the exit status. 2 for an unknown command, 130 after Ctrl-C.

    `sources` are what the entry points of installed packages name, unless they are given.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments, _installed() if sources is None else sources)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone: say nothing more
        return 1


def _run(arguments: list[str], sources: Iterable[Commands]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return _run([arguments[1], "--help"], sources)
        print(overview(_every(sources)))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version", "version"):
        print(f"museway {__version__}")
        return 0
    command = OWN.get(name)
    if command is None:
        every = _every(sources)
        if name not in every:
            print(unknown(name, every), file=sys.stderr)
            return USAGE_ERROR
        command = every[name]
    return command.run(rest)


def _installed() -> Iterator[Commands]:
    """One source an entry point, loaded when it is asked."""
    return (partial(_load, point) for point in entry_points(group=GROUP))


def _load(point: EntryPoint) -> Mapping[str, Command]:
    commands: Commands = point.load()
    return commands()


def _every(sources: Iterable[Commands]) -> dict[str, Command]:
    """Our commands and those of other packages; ours are never replaced.

    A package that can't be loaded costs its commands, not the script.
    """
    found: dict[str, Command] = {}
    for source in sources:
        try:
            found.update(source())
        except ImportError as error:
            print(f"museway: commands of another package can't be loaded: {error}", file=sys.stderr)
    return {**found, **OWN}


def overview(commands: Mapping[str, Command]) -> str:
    return "\n".join(_overview(commands))


def _overview(commands: Mapping[str, Command]) -> Iterator[str]:
    yield "Museway: one model, several ways to answer, an exact bill."
    yield ""
    yield "Usage: museway COMMAND [ARGUMENTS]"
    yield ""
    width = max(len(name) for name in commands)
    for title, names in (
        ("Ask", [name for name in commands if name in OWN]),
        ("Run and administer", [name for name in commands if name not in OWN]),
    ):
        if names:
            yield f"{title}:"
            yield from (f"  {name:<{width}}  {commands[name].help}" for name in names)
            yield ""
    yield "museway COMMAND --help says more about one; museway --version is the version."


def unknown(name: str, commands: Mapping[str, Command]) -> str:
    near = get_close_matches(name, commands, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"museway: there is no command {name!r}.{hint} See museway --help."
