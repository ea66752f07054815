"""Sums of usage on a terminal: a table, and a picture of who spent what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.console import Console
from rich.table import Table

from museway_billing.reports import Bucket, Dimension, UsageRow
from museway_billing.usage import TokenClass
from museway_platform.cli.bars import Amount, bars
from museway_platform.cli.money import dollars
from museway_platform.cli.show import write_line

_COUNTS = ("requests", "input", "cached_input", "reasoning", "output")
_BARS_WIDTH_MAX = 100
_FORMATS = {Bucket.HOUR: "%Y-%m-%d %H:00", Bucket.DAY: "%Y-%m-%d", Bucket.WEEK: "%Y-%m-%d", Bucket.MONTH: "%Y-%m"}


def show_usage(
    rows: Sequence[UsageRow], bucket: Bucket | None, by: Sequence[Dimension], *, as_json: bool, plot: bool
) -> None:
    """JSON: `{"data": […]}` with the grouped fields, the sums, and amounts in nano-USD. Else a table with a last line of
    totals, and a plot of the amounts where asked for."""
    if as_json:
        write_line(msgspec.json.encode({"data": [_plain(row, bucket, by) for row in rows]}).decode())
        return
    if not rows:
        write_line("No usage in this period.")
        return
    console = Console()
    if not console.is_terminal:
        console.width = 1000
    console.print(_table(rows, bucket, by))
    if plot:
        console.print()
        console.print(bars(_amounts(rows, bucket, by), width=min(console.width, _BARS_WIDTH_MAX)))
    sys.stdout.flush()


def _amounts(rows: Sequence[UsageRow], bucket: Bucket | None, by: Sequence[Dimension]) -> list[Amount]:
    """Without a bucket a bar per group; with one a bar per bucket, made of pieces by the first dimension."""
    if bucket is None:
        return [Amount(" ".join(_group(row, one) for one in by) or "all", "", row.amount_nano_usd) for row in rows]
    return [Amount(_start(row, bucket), _group(row, by[0]) if by else "", row.amount_nano_usd) for row in rows]


def _plain(row: UsageRow, bucket: Bucket | None, by: Sequence[Dimension]) -> dict[str, object]:
    groups = {dimension.value: _group(row, dimension) for dimension in by}
    start = {} if bucket is None or row.start is None else {"start": row.start}
    counts = {name: getattr(row, name) for name in _COUNTS}
    return {
        **start,
        **groups,
        **counts,
        "amount_nano_usd": row.amount_nano_usd,
        "credited_nano_usd": row.credited_nano_usd,
    }


def _group(row: UsageRow, dimension: Dimension) -> str:
    value = row.token_class if dimension is Dimension.CLASS else getattr(row, dimension.value)
    return value.value if isinstance(value, TokenClass) else str(value)


def _start(row: UsageRow, bucket: Bucket | None) -> str:
    return row.start.strftime(_FORMATS[bucket]) if bucket is not None and isinstance(row.start, datetime) else ""


def _count(row: UsageRow, name: str) -> int:
    """`tokens` is a row's one class, where rows are of classes."""
    if name == "tokens":
        return row.input + row.cached_input + row.reasoning + row.output
    count: int = getattr(row, name)
    return count


def _table(rows: Sequence[UsageRow], bucket: Bucket | None, by: Sequence[Dimension]) -> Table:
    counts = ("tokens",) if Dimension.CLASS in by else _COUNTS
    credited = any(row.credited_nano_usd for row in rows)
    heads = ([bucket.value] if bucket else []) + [dimension.value for dimension in by]
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(rows) > 1, footer_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, footer="" if place else "total")
    for name in counts:
        total = f"{sum(_count(row, name) for row in rows):,}"
        table.add_column(name.replace("_", " "), justify="right", footer=total)
    table.add_column("price", justify="right", footer=dollars(sum(row.amount_nano_usd for row in rows)))
    if credited:
        table.add_column("given back", justify="right", footer=dollars(sum(row.credited_nano_usd for row in rows)))
    for row in rows:
        groups = ([_start(row, bucket)] if bucket else []) + [_group(row, dimension) for dimension in by]
        money = [dollars(row.amount_nano_usd)] + ([dollars(row.credited_nano_usd)] if credited else [])
        table.add_row(*groups, *(f"{_count(row, name):,}" for name in counts), *money)
    return table
