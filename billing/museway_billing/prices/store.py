"""The price book in PostgreSQL. Functions take a connection inside the caller's transaction and never commit."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from museway_billing.prices.book import OverrideEnds, Price, PriceBook, PriceVersion, default_versions

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

PRICES_CHANNEL = "museway_prices"
"""NOTIFY, payload: the number of a new version. Whoever keeps a book loads it again."""

_LOCK = "select pg_advisory_xact_lock(hashtextextended('billing.price', 0))"
_VERSIONS = "select version, effective_from, organization, note from billing.price_version order by version"
_PRICES = """
select version, model, mode, ends, input, cached_input, reasoning, output from billing.price order by version, model, mode
"""
_INSERT_VERSION = """
insert into billing.price_version (version, effective_from, organization, note) values ($1, $2, $3, $4)
"""
_INSERT_PRICES = """
insert into billing.price (version, model, mode, ends, input, cached_input, reasoning, output)
select $1, * from unnest($2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
"""
_NOTIFY = "select pg_notify($1, $2)"


async def load(connection: Connection) -> PriceBook:
    """The book with every version. Raises PriceRefused where what is stored is not sound."""
    prices: dict[int, list[Price]] = {}
    ends: dict[int, list[OverrideEnds]] = {}
    for row in await connection.fetch(_PRICES):
        if row["ends"]:
            ends.setdefault(row["version"], []).append(OverrideEnds(model=row["model"], mode=row["mode"]))
        else:
            prices.setdefault(row["version"], []).append(_price(row))
    return PriceBook(
        PriceVersion(
            version=row["version"],
            effective_from=row["effective_from"],
            organization=row["organization"],
            note=row["note"],
            prices=tuple(prices.get(row["version"], ())),
            ends=tuple(ends.get(row["version"], ())),
        )
        for row in await connection.fetch(_VERSIONS)
    )


async def announce(connection: Connection, version: PriceVersion, *, now: datetime) -> PriceBook:
    """Add a version that takes effect at `now` or later; gateways hear of it on commit. The book with it.

    Raises PriceRefused. Announcing the very same version again is success: it returns the book as it is.
    """
    await connection.execute(_LOCK)
    book = await load(connection)
    longer = book.announcing(version, now=now)
    if longer is not book:
        await _insert(connection, version)
    return longer


async def seed(connection: Connection) -> PriceBook:
    """The default versions, where no price was ever announced; else the book as it is."""
    await connection.execute(_LOCK)
    book = await load(connection)
    if book.versions:
        return book
    for version in default_versions():
        await _insert(connection, version)
    return PriceBook(default_versions())


async def _insert(connection: Connection, version: PriceVersion) -> None:
    await connection.execute(
        _INSERT_VERSION, version.version, version.effective_from, version.organization, version.note
    )
    named: list[tuple[str, str, bool, int | None, int | None, int | None, int | None]] = [
        (price.model, price.mode, False, price.input, price.cached_input, price.reasoning, price.output)
        for price in version.prices
    ]
    named += [(end.model, end.mode, True, None, None, None, None) for end in version.ends]
    await connection.execute(_INSERT_PRICES, version.version, *(list(column) for column in zip(*named, strict=True)))
    await connection.execute(_NOTIFY, PRICES_CHANNEL, str(version.version))


def _price(row: asyncpg.Record) -> Price:
    return Price(
        model=row["model"],
        mode=row["mode"],
        input=row["input"],
        cached_input=row["cached_input"],
        reasoning=row["reasoning"],
        output=row["output"],
    )
