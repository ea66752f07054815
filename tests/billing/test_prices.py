"""Prices do not move, and no rounding costs a customer anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from museway_billing.money import NanoUsdPerMtok
from museway_billing.prices import (
    OverrideEnds,
    Price,
    PriceBook,
    PriceRefused,
    PriceVersion,
    UnknownPrice,
    cost,
    cover,
    cover_produced,
    default_versions,
)
from museway_billing.usage import Tariff

DAY = timedelta(days=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
PRICES = st.integers(0, 100_000_000_000).map(NanoUsdPerMtok)
TOKENS = st.integers(0, 5_000_000)


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    paid = draw(PRICES)
    cached = draw(st.integers(0, paid).map(NanoUsdPerMtok))
    return Tariff(1, paid, cached, draw(PRICES), draw(PRICES))


def version(
    number: int, at: datetime, each: int, *, organization: str | None = None, model: str = "*", mode: str = "instant"
) -> PriceVersion:
    price = NanoUsdPerMtok(each)
    priced = Price(model=model, mode=mode, input=price, cached_input=price, reasoning=price, output=price)
    return PriceVersion(version=number, effective_from=at, organization=organization, prices=(priced,))


def test_the_default_book_is_the_published_price_list() -> None:
    book = PriceBook(default_versions())
    listed = {mode: book.tariff("org_a", "muse", mode, START) for mode in ("instant", "thinking", "contemplating")}
    cents = 10_000_000
    assert listed["instant"] == Tariff(1, *(NanoUsdPerMtok(n * cents) for n in (25, 3, 100, 100)))
    assert listed["thinking"] == Tariff(1, *(NanoUsdPerMtok(n * cents) for n in (25, 3, 125, 125)))
    assert listed["contemplating"] == Tariff(1, *(NanoUsdPerMtok(n * cents) for n in (125, 15, 425, 425)))


def test_a_version_holds_from_its_date_on() -> None:
    book = PriceBook([version(1, START, 10), version(2, START + DAY, 20)])
    assert book.tariff("org_a", "m", "instant", START + DAY - timedelta(microseconds=1)).version == 1
    assert book.tariff("org_a", "m", "instant", START + DAY).version == 2


def test_nothing_is_free_by_accident() -> None:
    book = PriceBook([version(1, START, 10)])
    for asked in (("instant", START - DAY), ("thinking", START)):
        with pytest.raises(UnknownPrice):
            book.tariff("org_a", "m", *asked)


def test_an_organizations_price_goes_before_everybodys_and_a_models_before_any() -> None:
    book = PriceBook(
        [
            version(1, START, 1),
            version(2, START, 2, model="big"),
            version(3, START, 3, organization="org_a"),
            version(4, START, 4, organization="org_a", model="big"),
            version(5, START + DAY, 5),
        ]
    )
    later = START + 2 * DAY
    assert [book.tariff("org_a", model, "instant", later).version for model in ("big", "small")] == [4, 3]
    assert [book.tariff("org_b", model, "instant", later).version for model in ("big", "small")] == [2, 5]


def test_an_override_can_end() -> None:
    ends = PriceVersion(
        version=3,
        effective_from=START + DAY,
        organization="org_a",
        ends=(OverrideEnds(model="*", mode="instant"),),
    )
    book = PriceBook([version(1, START, 1), version(2, START, 2, organization="org_a"), ends])
    assert book.tariff("org_a", "m", "instant", START).version == 2
    assert book.tariff("org_a", "m", "instant", START + DAY).version == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([None, "org_a"])), min_size=1, max_size=12))
def test_a_new_version_changes_no_price_of_the_past(announced: Sequence[tuple[int, str | None]]) -> None:
    now, book = START, PriceBook([version(1, START, 1)])
    seen: dict[datetime, Tariff] = {START: book.tariff("org_a", "m", "instant", START)}
    for number, (wait, organization) in enumerate(announced, start=2):
        book = book.announcing(version(number, now + wait * DAY, number, organization=organization), now=now)
        assert all(book.tariff("org_a", "m", "instant", at) == tariff for at, tariff in seen.items() if at < now)
        assert book.tariff_of(number, organization or "org_b", "m", "instant").version == number
        seen[now] = book.tariff("org_a", "m", "instant", now)
        now += DAY


@pytest.mark.parametrize(
    ("announced", "field"),
    [
        (version(1, START, 2), "version"),
        (version(2, START - DAY, 1), "effective_from"),
        (version(0, START, 1), "version"),
        (version(2, START.replace(tzinfo=None), 1), "effective_from"),
        (version(2, START, -1), "prices"),
        (PriceVersion(version=2, effective_from=START), "prices"),
        (
            PriceVersion(version=2, effective_from=START, ends=(OverrideEnds(model="*", mode="instant"),)),
            "ends",
        ),
        (
            PriceVersion(
                version=2,
                effective_from=START,
                prices=(version(2, START, 1).prices[0], version(2, START, 3).prices[0]),
            ),
            "prices",
        ),
    ],
)
def test_what_is_refused_and_why(announced: PriceVersion, field: str) -> None:
    with pytest.raises(PriceRefused) as refused:
        PriceBook([version(1, START, 1)]).announcing(announced, now=START)
    assert refused.value.field == field


def test_cached_input_is_never_dearer_than_input() -> None:
    cheap, dear = NanoUsdPerMtok(1), NanoUsdPerMtok(2)
    price = Price(model="*", mode="instant", input=cheap, cached_input=dear, reasoning=cheap, output=cheap)
    with pytest.raises(PriceRefused, match="cached_input"):
        PriceBook([PriceVersion(version=1, effective_from=START, prices=(price,))])


@given(tariffs(), st.lists(st.tuples(TOKENS, TOKENS, TOKENS, TOKENS), min_size=1, max_size=6))
def test_a_hold_covers_its_records_however_they_are_split(
    tariff: Tariff, records: Sequence[tuple[int, int, int, int]]
) -> None:
    sums = [sum(column) for column in zip(*records, strict=True)]
    held = cover(tariff, input=sums[0], cached_input=sums[1], reasoning=sums[2], output=sums[3])
    billed = sum(cost(tariff, input=r[0], cached_input=r[1], reasoning=r[2], output=r[3]) for r in records)
    assert held - 4 * (len(records) + 1) <= billed <= held
    assert cover_produced(tariff, sums[2] + sums[3]) >= cost(tariff, reasoning=sums[2], output=sums[3])
