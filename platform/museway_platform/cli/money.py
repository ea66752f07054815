"""Dollars at the prompt: text ↔ nano-USD, in integers."""

from __future__ import annotations

import argparse
import re

from museway_billing.money import USD, NanoUsd, NanoUsdPerMtok

_AMOUNT = re.compile(r"(?P<minus>-)?\$?(?P<dollars>[0-9]{1,9})(?:\.(?P<fraction>[0-9]{1,9}))?")


def usd(text: str) -> NanoUsd:
    """`5`, `0.000000001`, `-2.50`: exact. For argparse: raises ArgumentTypeError on anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount in USD, such as 5 or 0.25 (at most nine decimals)")
    nano = int(match["dollars"]) * USD + int((match["fraction"] or "").ljust(9, "0"))
    return NanoUsd(-nano if match["minus"] else nano)


def usd_per_mtok(text: str) -> NanoUsdPerMtok:
    """A price in USD per million tokens; never negative."""
    price = usd(text)
    if price < 0:
        raise argparse.ArgumentTypeError("a price is not negative")
    return NanoUsdPerMtok(price)


def dollars(nano: int) -> str:
    """`$1,000.00`, `$0.000012345`: exact, with at least two decimals and no more than are needed."""
    sign, whole, fraction = "-" if nano < 0 else "", abs(nano) // USD, abs(nano) % USD
    decimals = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"
