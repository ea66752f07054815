"""Secret to principal, from memory; PostgreSQL is asked once for a secret that this process has not seen.

A change (revoked key, new plan, denial) drops what it touches within a second: `poll` reads the log of changes on the
process's `Watch`. Where PostgreSQL cannot be asked, what is known serves for 60 s after the last poll that succeeded, and
everybody else gets DirectoryUnavailable: a store that is down neither locks everybody out at once nor lets anybody in.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from museway_platform.database.changes import ChangeReader, prune
from museway_platform.database.pool import UNAVAILABLE, Connection, Pool
from museway_platform.identity import keys, store
from museway_platform.identity.principal import Principal, Unauthenticated

log = logging.getLogger("museway.identity")

KNOWN_SERVE_S = 60.0
UNKNOWN_STAYS_S = 5.0
ENTRIES_MAX = 100_000
REFUSALS_MAX = 10_000
LOOKUP_S = 2.0
LOOKUPS_MAX = 8
"""Look-ups at once: a flood of well-formed unknown secrets may not take every connection of the pool."""
_HOUSEKEEPING_S = 60.0

Introduce = Callable[[str, str, str], Awaitable[None]]
"""Given organization, project and key."""


class DirectoryUnavailable(Exception):
    """PostgreSQL cannot be asked and this process does not know the secret. Says nothing about the secret."""


class _Known(Struct, frozen=True, gc=False):
    principal: Principal
    until: float
    """Monotonic; infinity for a secret that does not expire."""


class Directory:
    """Of one process and one event loop.

    `introduce` is awaited before a principal is given out for the first time, so that limits and balance of an
    organization that is a second old are there for its first request.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        introduce: Introduce | None = None,
        clock: Callable[[], float] = time.monotonic,
        known_serve_s: float = KNOWN_SERVE_S,
    ) -> None:
        self._pool = pool
        self._introduce = introduce
        self._clock = clock
        self._known_serve_s = known_serve_s
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[bytes, tuple[Unauthenticated, float]] = {}
        self._turns = asyncio.Semaphore(LOOKUPS_MAX)
        self._fresh_until = -1.0
        self._changes = ChangeReader()
        self._generation = 0
        self._used: set[str] = set()
        self._housekeeping_at = clock() + _HOUSEKEEPING_S

    def cached(self, secret: str) -> Principal | None:
        """The principal of a secret seen before, if it may be served from memory now. Never suspends, never raises."""
        now = self._clock()
        if now >= self._fresh_until:
            return None
        known = self._known.get(hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest())
        if known is None or now >= known.until:
            return None
        principal = known.principal
        self._used.add(principal.key)
        return principal

    async def authenticate(self, secret: str) -> Principal | Unauthenticated:
        """Who `secret` belongs to. Junk is refused without a look-up. Suspends only where the store is asked.

        Raises DirectoryUnavailable.
        """
        known = self.cached(secret)
        if known is not None:
            return known
        if not keys.well_formed(secret):
            return Unauthenticated("malformed")
        sha256 = keys.digest(secret)
        refusal = self._remembered_refusal(sha256)
        return refusal if refusal is not None else await self._ask(secret, sha256)

    async def poll(self, connection: Connection) -> None:
        """Forget what changed since the last poll; to be run by the process's `Watch`."""
        began = self._clock()
        changes = await self._changes.read(connection)
        if changes is None or began >= self._fresh_until:
            self._forget(lambda _: True)  # after a long absence what was cached is worth nothing
        elif changes:
            touched = {change.subject for change in changes}
            self._forget(lambda p: not touched.isdisjoint((p.key, p.project, p.organization, p.plan)))
        self._fresh_until = began + self._known_serve_s
        if began >= self._housekeeping_at:
            await self._keep_house(connection, began)

    async def _ask(self, secret: str, sha256: bytes) -> Principal | Unauthenticated:
        try:
            async with asyncio.timeout(LOOKUP_S), self._turns:
                # Whoever had the turn before may have asked for the same secret.
                remembered = self.cached(secret) or self._remembered_refusal(sha256)
                if remembered is not None:
                    return remembered
                generation = self._generation
                async with self._pool.acquire() as connection:
                    found = await store.find(connection, sha256)
                if isinstance(found, Unauthenticated):
                    self._remember_refusal(sha256, found, generation)
                    return found
                if self._introduce is not None:
                    await self._introduce(*found.principal.owners)
        except UNAVAILABLE as error:
            raise DirectoryUnavailable from error
        self._remember(sha256, found, generation)
        return found.principal

    def _remembered_refusal(self, sha256: bytes) -> Unauthenticated | None:
        refused = self._refused.get(sha256)
        if refused is None or self._clock() >= min(refused[1], self._fresh_until):
            return None
        return refused[0]

    def _remember(self, sha256: bytes, found: store.Found, generation: int) -> None:
        if generation != self._generation:
            return  # something changed while we asked: the answer is right for now, and asked again next time
        if len(self._known) >= ENTRIES_MAX:
            del self._known[next(iter(self._known))]
        until = float("inf") if found.lives_s is None else self._clock() + found.lives_s
        self._known[sha256] = _Known(found.principal, until)
        self._used.add(found.principal.key)

    def _remember_refusal(self, sha256: bytes, refusal: Unauthenticated, generation: int) -> None:
        if generation != self._generation:
            return
        if len(self._refused) >= REFUSALS_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[sha256] = (refusal, self._clock() + UNKNOWN_STAYS_S)

    def _forget(self, which: Callable[[Principal], bool]) -> None:
        self._generation += 1
        self._refused.clear()  # an unknown secret may be the one just made
        for sha256 in [sha256 for sha256, known in self._known.items() if which(known.principal)]:
            del self._known[sha256]

    async def _keep_house(self, connection: Connection, now: float) -> None:
        """Once a minute: note which keys were used, forget old changes."""
        self._housekeeping_at = now + _HOUSEKEEPING_S
        used, self._used = self._used, set()
        if used:
            await store.touch_keys(connection, used)
        await prune(connection)
