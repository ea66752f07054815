"""Money is integers: nano-USD (1e-9 USD). One function rounds, in one direction, once per line."""

from __future__ import annotations

from typing import NewType

NanoUsd = NewType("NanoUsd", int)
NanoUsdPerMtok = NewType("NanoUsdPerMtok", int)
"""A price: nano-USD per million tokens."""

MTOK = 1_000_000
USD = 1_000_000_000


def amount(tokens: int, price: NanoUsdPerMtok) -> NanoUsd:
    """What `tokens` cost at `price`, rounded down: a fraction of a nano-dollar is the customer's."""
    assert tokens >= 0 and price >= 0
    return NanoUsd(tokens * price // MTOK)


def ceiling(tokens: int, price: NanoUsdPerMtok) -> NanoUsd:
    """The least whole amount that covers `tokens` however they are split into lines: for holds, never for bills."""
    assert tokens >= 0 and price >= 0
    return NanoUsd(-(-tokens * price // MTOK))
