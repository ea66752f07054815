"""Results on standard output: a table for a person, JSON for a program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import msgspec
from msgspec import Struct, structs

from museway_platform.cli.money import dollars

_NUMBERS = (int, float)


def show(result: Struct | Sequence[Struct], *, as_json: bool, nothing: str = "Nothing yet.") -> None:
    """One thing as `name  value` lines, several as a table whose columns are the fields.

    As JSON: the thing itself, several as `{"data": […]}`. A field whose name ends in `_nano_usd` is shown in dollars and
    stays an integer in JSON; times are UTC; None is shown as a dash.
    """
    if as_json:
        whole = result if isinstance(result, Struct) else {"data": list(result)}
        write_line(msgspec.json.encode(whole).decode())
    elif isinstance(result, Struct):
        for name in result.__struct_fields__:
            write_line(f"{_title(name):<16} {_cell(name, getattr(result, name))}")
    elif not result:
        write_line(nothing)
    else:
        _table(result)


def write_line(text: str) -> None:
    """Flushed at once: what reads a pipe shall not wait for our buffer."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _table(rows: Sequence[Struct]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    fields = structs.fields(rows[0])
    for field in fields:
        numeric = any(isinstance(getattr(row, field.name), _NUMBERS) for row in rows)
        table.add_column(_title(field.name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(field.name, getattr(row, field.name)) for field in fields))
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a pipe has no width: rows stay whole
    console.print(table)


def _title(name: str) -> str:
    return name.removesuffix("_nano_usd").removesuffix("_nano_usd_per_mtok").replace("_", " ")


def _cell(name: str, value: object) -> str:
    if value is None or value == ():
        return "–"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, tuple):
        return ", ".join(map(str, cast("tuple[object, ...]", value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return dollars(value) if "_nano_usd" in name else f"{value:,}"
    return str(value)
