"""What a token costs: price versions that never move, and the arithmetic of tokens x price."""

from museway_billing.prices.book import (
    OverrideEnds,
    Price,
    PriceBook,
    PriceRefused,
    PriceVersion,
    UnknownPrice,
    default_versions,
)
from museway_billing.prices.tariff import cost, cover, cover_produced, priced_lines, total

__all__ = [
    "OverrideEnds",
    "Price",
    "PriceBook",
    "PriceRefused",
    "PriceVersion",
    "UnknownPrice",
    "cost",
    "cover",
    "cover_produced",
    "default_versions",
    "priced_lines",
    "total",
]
