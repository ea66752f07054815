"""Amounts as bars of text, each made of coloured pieces. Integers throughout; a piece of money is never invisible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from museway_platform.cli.money import dollars

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "white")
_ROWS_MAX = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Amount(NamedTuple):
    """A piece of the bar `row`; pieces of one name have one colour. An empty name stands for a bar without pieces."""

    row: str
    piece: str
    nano_usd: int


def bars(amounts: Sequence[Amount], *, width: int) -> Text:
    """A line per row, in the order in which rows first come, the last 40 of them; then what the colours mean.

    The longest bar fills `width` characters with its label and amount. Amounts below zero are drawn as none.
    """
    rows = list(dict.fromkeys(amount.row for amount in amounts))[-_ROWS_MAX:]
    pieces = list(dict.fromkeys(amount.piece for amount in amounts))
    sums = dict.fromkeys(((row, piece) for row in rows for piece in pieces), 0)
    for amount in amounts:
        if (amount.row, amount.piece) in sums:
            sums[amount.row, amount.piece] += max(amount.nano_usd, 0)
    totals = {row: sum(sums[row, piece] for piece in pieces) for row in rows}
    label = max(map(len, rows), default=0)
    room = max(width - label - 2 - max((len(dollars(total)) + 1 for total in totals.values()), default=0), 8)
    most = max(totals.values(), default=0) or 1
    picture = Text()
    for row in rows:
        picture.append(f"{row:<{label}}  ")
        for place, piece in enumerate(pieces):
            picture.append(_bar(sums[row, piece], most, room), style=_COLOURS[place % len(_COLOURS)])
        picture.append(f" {dollars(totals[row])}\n")
    if pieces != [""]:
        picture.append(" " * (label + 2))
        for place, piece in enumerate(pieces):
            picture.append(f"■ {piece}  ", style=_COLOURS[place % len(_COLOURS)])
    picture.rstrip()
    return picture


def _bar(amount: int, most: int, room: int) -> str:
    """As many blocks as `amount` is of `most`, to the eighth, at least one eighth of anything above 0."""
    eighths = amount * room * 8 // most
    if amount and not eighths:
        eighths = 1
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
