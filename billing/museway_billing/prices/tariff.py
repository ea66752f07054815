"""Tokens x price: the lines of a bill (rounded down, once per line) and what a hold must cover (rounded up)."""

from __future__ import annotations

from collections.abc import Iterable

from museway_billing.money import NanoUsd, amount, ceiling
from museway_billing.usage import Line, Tariff, TokenClass


def priced_lines(
    tariff: Tariff,
    *,
    input: int = 0,  # noqa: A002  the token classes are named as they are on the bill
    cached_input: int = 0,
    reasoning: int = 0,
    output: int = 0,
) -> tuple[Line, ...]:
    """One line per class that has tokens, in the order of the classes. Counts are never negative."""
    lines: list[Line] = []
    if input:
        lines.append(Line(TokenClass.INPUT, input, tariff.input, amount(input, tariff.input)))
    if cached_input:
        lines.append(
            Line(TokenClass.CACHED_INPUT, cached_input, tariff.cached_input, amount(cached_input, tariff.cached_input))
        )
    if reasoning:
        lines.append(Line(TokenClass.REASONING, reasoning, tariff.reasoning, amount(reasoning, tariff.reasoning)))
    if output:
        lines.append(Line(TokenClass.OUTPUT, output, tariff.output, amount(output, tariff.output)))
    return tuple(lines)


def total(lines: Iterable[Line]) -> NanoUsd:
    """The sum of the lines' amounts: nothing is rounded a second time."""
    return NanoUsd(sum([line.amount_nano_usd for line in lines]))


def cost(
    tariff: Tariff,
    *,
    input: int = 0,  # noqa: A002
    cached_input: int = 0,
    reasoning: int = 0,
    output: int = 0,
) -> NanoUsd:
    """What one record with these counts is billed."""
    return total(priced_lines(tariff, input=input, cached_input=cached_input, reasoning=reasoning, output=output))


def cover(
    tariff: Tariff,
    *,
    input: int = 0,  # noqa: A002
    cached_input: int = 0,
    reasoning: int = 0,
    output: int = 0,
) -> NanoUsd:
    """What a hold for these counts takes: never less than `cost`, into however many records the tokens are split."""
    return NanoUsd(
        ceiling(input, tariff.input)
        + ceiling(cached_input, tariff.cached_input)
        + ceiling(reasoning, tariff.reasoning)
        + ceiling(output, tariff.output)
    )


def cover_produced(tariff: Tariff, tokens: int) -> NanoUsd:
    """What a hold takes for `tokens` that may turn out to be reasoning or output, in any proportion."""
    return ceiling(tokens, max(tariff.reasoning, tariff.output))
