"""What can be asked of usage, and what comes back."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from museway_billing.money import NanoUsd
from museway_billing.usage import TokenClass


class Bucket(StrEnum):
    """The width of a bucket; all begin in UTC, weeks on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Dimension(StrEnum):
    """What sums can be grouped by (a day is a bucket)."""

    ORGANIZATION = "organization"
    PROJECT = "project"
    KEY = "key"
    MODE = "mode"
    MODEL = "model"
    CLASS = "class"

    @property
    def column(self) -> str:
        return self.value


class UsageFilter(Struct, frozen=True, kw_only=True):
    """None is "do not filter". `organization` None is every organization's: for operators, never for a customer."""

    organization: str | None
    projects: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None


class RecordKey(NamedTuple):
    """Where a page of records ended. `created`: microseconds since the epoch."""

    created: int
    id: str


class UsageRow(Struct, frozen=True, kw_only=True):
    """One sum. `start` is its bucket's, None without buckets; a dimension is None where it was not grouped by.

    Tokens by class; `amount_nano_usd` is what was billed, `credited_nano_usd` what was given back of it at once.
    """

    start: datetime | None
    organization: str | None
    project: str | None
    key: str | None
    mode: str | None
    model: str | None
    token_class: TokenClass | None
    input: int
    cached_input: int
    reasoning: int
    output: int
    amount_nano_usd: NanoUsd
    credited_nano_usd: NanoUsd
    requests: int
