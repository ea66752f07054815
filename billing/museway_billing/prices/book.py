"""The price book: versions with a date from which they hold, for everybody or for one organization. Pure, immutable.

A version number names its prices for ever (I5): a record carries the number, and its lines can be computed again from it.
What holds at a time is found in this order: the organization's own price of this model, its own price of any model (`*`),
everybody's price of this model, everybody's of any model. Among several that hold the one effective last wins.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from importlib.resources import files

import msgspec
from msgspec import Struct, structs

from museway_billing.money import NanoUsdPerMtok
from museway_billing.usage import Tariff

ANY_MODEL = "*"


class UnknownPrice(LookupError):
    """No version prices this model and mode for the organization at that time. Nothing is free by accident."""

    def __init__(self, organization: str, model: str, mode: str) -> None:
        super().__init__(f"no price of {model} in mode {mode} for {organization}")
        self.organization, self.model, self.mode = organization, model, mode


class PriceRefused(ValueError):
    """A version cannot join the book. `field` names what is wrong with it."""

    def __init__(self, version: int, field: str, why: str) -> None:
        super().__init__(f"price version {version}: {field} {why}")
        self.version, self.field = version, field


class Price(Struct, frozen=True, kw_only=True):
    """The four class prices of one model (`*`: any) and mode, nano-USD per million tokens."""

    model: str
    mode: str
    input: NanoUsdPerMtok
    cached_input: NanoUsdPerMtok
    reasoning: NanoUsdPerMtok
    output: NanoUsdPerMtok


class OverrideEnds(Struct, frozen=True, kw_only=True):
    """Instead of prices: from the version's date the organization's own price of this model and mode is everybody's."""

    model: str
    mode: str


class PriceVersion(Struct, frozen=True, kw_only=True):
    """Prices that take effect together. `organization` None: for everybody. `effective_from` is aware, UTC.

    `ends` withdraws earlier overrides of the same organization; it is empty where `organization` is None.
    """

    version: int
    effective_from: datetime
    organization: str | None = None
    note: str = ""
    prices: tuple[Price, ...] = ()
    ends: tuple[OverrideEnds, ...] = ()


_Key = tuple[str | None, str, str]


class _Series:
    """One key's prices in the order in which they take effect; None ends an override."""

    __slots__ = ("dates", "tariffs")

    def __init__(self) -> None:
        self.dates: list[tuple[datetime, int]] = []
        self.tariffs: list[Tariff | None] = []

    def insert(self, date: datetime, version: int, tariff: Tariff | None) -> None:
        place = bisect_right(self.dates, (date, version))
        self.dates.insert(place, (date, version))
        self.tariffs.insert(place, tariff)

    def at(self, date: datetime) -> Tariff | None:
        if self.dates and self.dates[-1][0] <= date:  # what every request asks for: the latest holds
            return self.tariffs[-1]
        place = bisect_right(self.dates, date, key=lambda entry: entry[0])
        return self.tariffs[place - 1] if place else None


class PriceBook:
    """All versions ever announced. Raises PriceRefused for a version that is not sound or whose number is taken."""

    __slots__ = ("_series", "versions")

    def __init__(self, versions: Iterable[PriceVersion] = ()) -> None:
        self.versions: tuple[PriceVersion, ...] = tuple(sorted(map(_listed, versions), key=lambda each: each.version))
        self._series: dict[_Key, _Series] = {}
        number = 0
        for version in self.versions:
            _check(version)
            if version.version == number:
                raise PriceRefused(number, "version", "is taken")
            number = version.version
            self._index(version)

    def _index(self, version: PriceVersion) -> None:
        for price in version.prices:
            key = (version.organization, price.model, price.mode)
            tariff = _tariff(version.version, price)
            self._series.setdefault(key, _Series()).insert(version.effective_from, version.version, tariff)
        for end in version.ends:
            key = (version.organization, end.model, end.mode)
            self._series.setdefault(key, _Series()).insert(version.effective_from, version.version, None)

    @property
    def last_version(self) -> int:
        """The highest number in use, 0 for an empty book."""
        return self.versions[-1].version if self.versions else 0

    def announcing(self, version: PriceVersion, *, now: datetime) -> PriceBook:
        """A book with one more version; this one if it has that very version already.

        Refuses a number not above all others, and a date before `now`: what was in force stays what it was.
        """
        _check(version)
        if _listed(version) in self.versions:
            return self
        if version.version <= self.last_version:
            raise PriceRefused(version.version, "version", f"is not above {self.last_version}")
        if version.effective_from < now:
            raise PriceRefused(version.version, "effective_from", "is in the past")
        return PriceBook((*self.versions, version))

    def tariff(self, organization: str, model: str, mode: str, at: datetime) -> Tariff:
        """The prices in force for the organization at `at` (aware). Raises UnknownPrice."""
        for owner in (organization, None):
            for name in (model, ANY_MODEL):
                series = self._series.get((owner, name, mode))
                tariff = series.at(at) if series else None
                if tariff is not None:
                    return tariff
        raise UnknownPrice(organization, model, mode)

    def next_change(self, after: datetime) -> datetime | None:
        """When the next version after this moment takes effect; None where none is announced."""
        return min((each.effective_from for each in self.versions if each.effective_from > after), default=None)

    def tariff_of(self, version: int, organization: str, model: str, mode: str) -> Tariff:
        """The prices that a record of this version was made under, whenever it was. Raises UnknownPrice."""
        for owner in (organization, None):
            for name in (model, ANY_MODEL):
                series = self._series.get((owner, name, mode))
                for tariff in series.tariffs if series else ():
                    if tariff is not None and tariff.version == version:
                        return tariff
        raise UnknownPrice(organization, model, mode)


def _listed(version: PriceVersion) -> PriceVersion:
    """The same version with its prices in one order, so that equal ones are equal."""
    return structs.replace(
        version,
        prices=tuple(sorted(version.prices, key=lambda price: (price.model, price.mode))),
        ends=tuple(sorted(version.ends, key=lambda end: (end.model, end.mode))),
    )


def _tariff(version: int, price: Price) -> Tariff:
    return Tariff(version, price.input, price.cached_input, price.reasoning, price.output)


def _check(version: PriceVersion) -> None:
    number = version.version
    if number < 1:
        raise PriceRefused(number, "version", "is below 1")
    if version.effective_from.utcoffset() is None:
        raise PriceRefused(number, "effective_from", "has no time zone")
    if version.ends and version.organization is None:
        raise PriceRefused(number, "ends", "withdraws everybody's prices")
    if not version.prices and not version.ends:
        raise PriceRefused(number, "prices", "are missing")
    named = [(price.model, price.mode) for price in version.prices] + [(end.model, end.mode) for end in version.ends]
    if len(named) != len(set(named)):
        raise PriceRefused(number, "prices", "name a model and mode twice")
    for price in version.prices:
        if min(price.input, price.cached_input, price.reasoning, price.output) < 0:
            raise PriceRefused(number, "prices", f"of {price.model} {price.mode} are negative")
        if price.cached_input > price.input:
            raise PriceRefused(
                number, "cached_input", f"of {price.model} {price.mode} is above input: holds rely on it"
            )


class _Seed(Struct, forbid_unknown_fields=True):
    versions: tuple[PriceVersion, ...]


def default_versions() -> tuple[PriceVersion, ...]:
    """The versions of `seed.toml`, which a new installation starts with."""
    text = files("museway_billing.prices").joinpath("seed.toml").read_bytes()
    return msgspec.toml.decode(text, type=_Seed).versions
