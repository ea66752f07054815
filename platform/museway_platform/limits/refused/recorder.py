"""Notes refusals as they happen, and writes them together, off the path of requests.

A flood of refusals writes no flood of rows: of one key and limit the first in each second is kept and the others are
counted into it. What is gathered is lost with a process that is killed: it explains, nothing is billed by it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from msgspec import Struct, structs

from museway_platform.database.pool import UNAVAILABLE, Pool
from museway_platform.limits.limiter import Holder, Limiter, LimiterUnavailable, Refused, Subject
from museway_platform.limits.refused import store
from museway_platform.limits.refused.record import RefusedRequest

log = logging.getLogger("museway.limits")

GATHER_S = 1.0
WAITING_MAX = 10_000
"""Kinds of refusals that wait for the database at most; further ones are counted in the log only."""
_PRUNE_EVERY = 3600


class _Waiting(Struct):
    first: RefusedRequest
    times: int = 1


class RefusalRecorder:
    """Of one process. `run` writes what was noted, until cancelled; what waits then is written before it ends."""

    def __init__(self, limiter: Limiter, pool: Pool) -> None:
        self._limiter = limiter
        self._pool = pool
        self._waiting: dict[tuple[str, ...], _Waiting] = {}
        self._dropped = 0

    async def note(self, request_id: str, subject: Subject, code: str, refused: Refused) -> None:
        """Keep a refusal. `code` is the error's."""
        state = refused.state
        kind = (subject.key, subject.mode, state.scope_id, state.metric, state.mode or "")
        waiting = self._waiting.get(kind)
        if waiting is not None:
            waiting.times += 1
            return
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        holders = await self._holders(subject.organization, state.scope_id)
        if (waiting := self._waiting.get(kind)) is not None:  # another one, while this one asked
            waiting.times += 1
            return
        self._waiting[kind] = _Waiting(
            RefusedRequest(
                request_id=request_id,
                organization=subject.organization,
                project=subject.project,
                key=subject.key,
                mode=subject.mode,
                code=code,
                scope=state.scope,
                scope_id=state.scope_id,
                metric=state.metric,
                limit_mode=state.mode,
                limit=state.limit,
                used=state.used,
                held=state.held,
                asked=refused.asked,
                retry_after_s=refused.retry_after_s,
                holders=holders,
                times=1,
                created=datetime.now(UTC),
            )
        )

    async def _holders(self, organization: str, scope_id: str) -> list[Holder]:
        try:
            return await self._limiter.holders(organization, scope_id)
        except LimiterUnavailable:  # it was there a moment ago, for the refusal
            return []

    async def run(self) -> None:
        rounds = 0
        try:
            while True:
                await asyncio.sleep(GATHER_S)
                await self._write(prune=rounds % _PRUNE_EVERY == 0)
                rounds += 1
        finally:
            await self._write(prune=False)

    async def _write(self, *, prune: bool) -> None:
        if self._dropped:
            log.warning("%s refusals were not kept: too many kinds at once", self._dropped)
            self._dropped = 0
        if not self._waiting and not prune:
            return
        batch, self._waiting = self._waiting, {}
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                if batch:
                    kept = [structs.replace(waiting.first, times=waiting.times) for waiting in batch.values()]
                    await store.keep(connection, kept)
                if prune:
                    await store.prune(connection, datetime.now(UTC))
        except UNAVAILABLE:
            self._waiting = batch | self._waiting  # PostgreSQL is away: its watch says so
