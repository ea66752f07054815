"""Keeps shared counters whole: which generation of them counts, and which processes count in it.

Redis may come back empty, older, or as another server. Whoever notices begins a new generation in PostgreSQL. Then every
process shuts its limiter, stops draining, and tells the new counters what it alone knows: its open holds, and what it used
that is not in the ledger. When all have, one of them opens the accounts with the ledger's balances, and all go on.

A process that died is waited for until its journal was claimed and drained (`museway_billing.journal`): from then on the
ledger knows all of it. Its holds are ended by what the ledger has of them, and it is no member any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from museway_billing.journal.drain import Drain
from museway_billing.ledger import store as ledger
from museway_platform.database.pool import UNAVAILABLE, Connection, Pool
from museway_platform.database.redis import RedisServer, RedisUnavailable
from museway_platform.limits.limiter import LimiterUnavailable, Used
from museway_platform.limits.shared import store
from museway_platform.limits.shared.limiter import SharedLimiter
from museway_platform.limits.shared.store import Generation, Member

log = logging.getLogger("museway.limits")

INTERVAL_S: Final = 0.5
HURRY_S: Final = 0.05
"""Between looks while the limiter is shut."""
MARKER: Final = "museway:generation:"
"""With the deployment after it: the number of the generation that Redis has the counters of."""
_NOTHING: Final = Used(input_tokens=0, cached_tokens=0, output_tokens=0, amount=0)
_AT_A_TIME: Final = 1000


class DeclaredDead(Exception):
    """This process's journal was claimed and closed by another: it may not go on."""


class Membership:
    """Of one process. `run` belongs into its background. `opened` is called whenever the limiter has opened: whatever the
    database says has to be told again."""

    def __init__(
        self, url: str, limiter: SharedLimiter, pool: Pool, drain: Drain, *, opened: Callable[[], Awaitable[None]]
    ) -> None:
        self._url = url
        self._limiter = limiter
        self._pool = pool
        self._drain = drain
        self._opened = opened
        self._server: RedisServer | None = None
        self._still = AsyncExitStack()
        self._generation = 0
        self._waited_for = ""
        self._said = ""

    async def run(self) -> None:
        try:
            while True:
                await self._look()
                pause_s = INTERVAL_S if self._limiter.is_open else HURRY_S
                try:
                    await asyncio.wait_for(self._limiter.loss.wait(), pause_s)
                except TimeoutError:
                    continue
        finally:
            await self._still.aclose()
            if self._server is not None:
                await self._server.close()

    async def _look(self) -> None:
        self._limiter.loss.clear()
        try:
            async with self._pool.acquire() as connection:
                await self._keep(connection)
        except (RedisUnavailable, LimiterUnavailable) as error:
            if str(error) != self._said:
                log.warning("limits are not available: %s", error)
            self._said = str(error)
            await self._still.aclose()  # bills go on; if anything moves meanwhile, `_build` sees it
            await asyncio.sleep(INTERVAL_S)
        except UNAVAILABLE as error:
            if isinstance(error, ValueError):  # a value that can't be encoded now, nor later
                raise
            log.warning("PostgreSQL is away", extra={"error": type(error).__name__})
            await asyncio.sleep(INTERVAL_S)

    async def _keep(self, connection: Connection) -> None:
        found = await store.generation(connection)
        server, is_fresh = await self._connected()
        reason = await self._loss(server, found, is_fresh)
        if reason is not None:
            await self._begin(connection, found, server, reason)
            return
        assert found is not None
        if found.number != self._generation:
            await self._enter(connection, found, server)
        elif is_fresh:
            await self._limiter.use(server, found.number, anew=False)
        members = await store.members(connection)
        if all(member.journal != self._limiter.journal for member in members):
            raise DeclaredDead(self._limiter.journal)
        if not found.built:
            await self._build(connection, found, server, members)
        elif not self._limiter.is_open:
            await self._still.aclose()
            self._limiter.open()
            self._said = ""
            await self._opened()
        else:
            await self._bury(connection, members)

    async def _connected(self) -> tuple[RedisServer, bool]:
        if self._server is not None and not self._server.is_broken:
            return self._server, False
        self._limiter.away()
        if self._server is not None:
            await self._server.close()
        self._server = None
        self._server = await RedisServer.connect(self._url)
        if self._server.evicts:
            log.error("Redis may evict what limits count: set maxmemory-policy to noeviction")
        return self._server, True

    async def _loss(self, server: RedisServer, found: Generation | None, is_fresh: bool) -> str | None:
        """Why the counters can't be trusted; None where they can."""
        if found is None:
            return "nothing was counted before"
        if found.number == self._generation and self._limiter.lost is not None:
            return self._limiter.lost
        if found.server != server.id:
            return "Redis was restarted, or is another one"
        if is_fresh and found.built and await server.get(MARKER + found.deployment) != str(found.number):
            return "Redis lost its data"
        return None

    async def _begin(self, connection: Connection, found: Generation | None, server: RedisServer, reason: str) -> None:
        after = 0 if found is None else found.number
        if await store.begin_generation(connection, after=after, server=server.id, reason=reason):
            log.warning("limits are counted anew: %s", reason)
        self._limiter.shut()
        self._limiter.loss.set()  # go on at once

    async def _enter(self, connection: Connection, found: Generation, server: RedisServer) -> None:
        """Tell the new generation all that this process knows."""
        self._limiter.shut()
        await self._still.aclose()
        drained = await self._still.enter_async_context(self._drain.standing_still())
        await self._limiter.use(server, found.number, anew=True)
        await self._limiter.own.contribute()
        await store.join(connection, self._limiter.journal, generation=found.number, drained=drained)
        self._generation = found.number

    async def _build(
        self, connection: Connection, found: Generation, server: RedisServer, members: list[Member]
    ) -> None:
        """Open the accounts, once every member has told what it knows. One process does it."""
        for member in members:
            if member.gone and member.generation == found.number:  # it told what is in the ledger by now
                await self._begin(connection, found, server, f"{member.journal} ended while limits were counted anew")
                return
            if member.gone:
                await store.leave(connection, member.journal)
        if not self._complete(found, [member for member in members if not member.gone]):
            return
        async with connection.transaction():
            locked = await store.generation(connection, lock=True)
            if locked != found:
                return
            balances = await ledger.balances(connection)
            # Looked at after the balances, too: nothing moved to the ledger since everybody told what is not there.
            members = await store.members(connection)
            if not self._complete(found, members):
                return
            if not all(member.level for member in members):
                await self._begin(connection, found, server, "usage was drained while limits were counted anew")
                return
            await self._limiter.open_accounts({one.organization: (one.posted, one.sequence) for one in balances})
            await server.set(MARKER + found.deployment, str(found.number))
            await store.built(connection, found.number)
        self._limiter.loss.set()  # open at once

    def _complete(self, found: Generation, members: list[Member]) -> bool:
        behind = ", ".join(member.journal for member in members if member.generation != found.number)
        if behind and behind != self._waited_for:
            log.warning("limits wait for %s (dead ones: until a process on their disk claims the journal)", behind)
        self._waited_for = behind
        return not behind

    async def _bury(self, connection: Connection, members: list[Member]) -> None:
        """End the holds of processes whose journal is in the ledger to its end."""
        gone = [member.journal for member in members if member.gone and member.journal != self._limiter.journal]
        if not gone:
            return
        organizations = await store.organizations(connection)
        if not all(map(self._limiter.knows, organizations)):
            return  # a new one is on its way here: the dead may have held of it
        for journal in gone:
            for start in range(0, len(organizations), _AT_A_TIME):
                await self._end_holds(connection, journal, organizations[start : start + _AT_A_TIME])
            await store.leave(connection, journal)

    async def _end_holds(self, connection: Connection, journal: str, organizations: list[str]) -> None:
        found = await asyncio.gather(*(self._limiter.orphans(one, journal) for one in organizations))
        holds = [(one, hold_id) for one, hold_ids in zip(organizations, found, strict=True) for hold_id in hold_ids]
        used = await store.used(connection, [hold_id for _, hold_id in holds])
        for organization, hold_id in holds:
            log.warning("ended %s of %s, whose process is gone", hold_id, journal)
            await self._limiter.end_orphan(organization, hold_id, used.get(hold_id, _NOTHING))
        await asyncio.gather(*(self._limiter.forget(one, journal) for one in organizations))
