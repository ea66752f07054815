"""What a limiter has to be told of the database: the side of it that `feed.py` knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from museway_platform.limits.policy import Period, Policy


class Spent(Struct, frozen=True):
    """What a scope used, by the ledger, in the period that begins at `start` (ns since the epoch). The ledger was asked when
    `drained_before` of the organization had moved there, by `Flow`."""

    start: int
    amount: int
    drained_before: int = 0


class Flow(Struct, frozen=True, kw_only=True):
    """An organization's usage since its account was opened, in nano-USD: what ended, and what of it is in the ledger."""

    settled: int
    drained: int


class FedLimiter(Protocol):
    """A limiter that lives by what `Feed` tells it. The coroutines raise LimiterUnavailable where the limiter is shared and
    can't be asked: then everything has to be told again."""

    def knows(self, organization: str) -> bool: ...

    def sequence(self, organization: str) -> int:
        """Of the money that came in: all up to this one is applied. KeyError where the account is not open."""
        ...

    async def open_account(self, organization: str, *, posted: int, sequence: int) -> None:
        """Begin with the ledger's balance as of money `sequence`. An account that is open stays as it is: it has counted
        since then, and the ledger follows it."""
        ...

    def set_allowance(self, organization: str, amount: int) -> None:
        """How far the balance may fall below zero. KeyError where the account is not open."""
        ...

    async def configure(
        self, policy: Policy, spent: Mapping[Period, Spent] | None = None, *, organization: str | None = None
    ) -> None:
        """Put `policy`, which is `organization`'s or of a project or key of it, in place of the scope's one before. What its
        buckets and caps counted stays counted.

        A cap that is new begins with what was `spent` in its current period (nothing where it is not told), what the
        organization settled since, and the scope's open holds that were admitted in it.
        """
        ...

    def told(self) -> None:
        """Everything that the database has was told."""
        ...

    async def flow(self, organization: str) -> Flow:
        """Zeros where the organization is unknown."""
        ...

    async def posted(self, organization: str, *, sequence: int, delta: int) -> bool: ...
