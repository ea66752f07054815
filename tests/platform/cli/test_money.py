"""Dollars at the prompt are exact."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_platform.cli.money import dollars, usd, usd_per_mtok


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_what_is_shown_can_be_typed(nano: int) -> None:
    assert usd(dollars(nano).replace(",", "")) == nano


@pytest.mark.parametrize(
    ("text", "nano"), [("5", 5_000_000_000), ("$0.25", 250_000_000), ("0.000000001", 1), ("-2.50", -2_500_000_000)]
)
def test_amounts(text: str, nano: int) -> None:
    assert usd(text) == nano


@pytest.mark.parametrize("text", ["", "five", "1e3", "0.0000000001", ".5", "1,000", "nan", "inf", "1_000", "٣"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        usd(text)


def test_a_price_is_not_negative() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        usd_per_mtok("-1")


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "$0.00"), (1, "$0.000000001"), (1_234_500_000_000, "$1,234.50"), (-10_000_000, "-$0.01")]
)
def test_dollars(nano: int, text: str) -> None:
    assert dollars(nano) == text
