"""What can be said of one record alone: its counts fit its state, its lines follow from its counts and its version. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from museway_billing.prices import PriceBook, UnknownPrice, priced_lines, total
from museway_billing.reconcile.report import Check, Difference
from museway_billing.usage import Line, State, UsageRecord


def check_record(record: UsageRecord, book: PriceBook) -> Iterator[Difference]:
    """The differences of one record; none is the rule."""
    expected = _expected_lines(record, book)
    if expected != record.lines:
        yield _difference(Check.LINES, record, _text(expected), _text(record.lines))
    if record.amount_nano_usd != total(record.lines):
        yield _difference(Check.LINES, record, str(total(record.lines)), str(record.amount_nano_usd))
    for expected_text, found in _broken(record):
        yield _difference(Check.TOKENS, record, expected_text, found)


def _expected_lines(record: UsageRecord, book: PriceBook) -> tuple[Line, ...] | None:
    try:
        tariff = book.tariff_of(record.price_version, record.organization, record.model, record.mode)
    except UnknownPrice:
        return None
    return priced_lines(
        tariff,
        input=_known(record.input),
        cached_input=_known(record.cached_input),
        reasoning=_known(record.reasoning),
        output=_known(record.output),
    )


def _known(count: int | None) -> int:
    return 0 if count is None else count


def _broken(record: UsageRecord) -> Iterator[tuple[str, str]]:
    counts = (record.input, record.cached_input, record.reasoning, record.output)
    if None in counts and record.state is not State.UNKNOWN:
        yield f"{record.state}: known counts", "an unknown count"
    if record.state is State.COMPLETE and record.unbilled is None:
        yield "complete: unbilled is known", "unknown"
    if record.state is State.FAILED and any(counts):
        yield "failed: nothing billed", str(counts)
    if record.reserve_nano_usd and record.state is not State.UNKNOWN:
        yield f"{record.state}: nothing reserved", str(record.reserve_nano_usd)
    if record.credited_nano_usd > record.amount_nano_usd:
        yield f"credited up to {record.amount_nano_usd}", str(record.credited_nano_usd)


def _text(lines: tuple[Line, ...] | None) -> str:
    if lines is None:
        return "a price version that has this model and mode"
    return ", ".join(
        f"{line.token_class} {line.tokens}x{line.price_nano_usd_per_mtok}={line.amount_nano_usd}" for line in lines
    )


def _difference(check: Check, record: UsageRecord, expected: str, found: str) -> Difference:
    return Difference(check=check, organization=record.organization, id=record.id, expected=expected, found=found)
