"""Why was I limited: what a refusal was decided on, kept as it was at the decision.

A flood of refusals writes no flood of rows: of one key and limit the first in each second is kept and the others are
counted into it. What is gathered is lost with a process that is killed: it explains, nothing is billed by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
from msgspec import Struct

from museway_platform.database.pool import UNAVAILABLE, Connection, Pool, Record
from museway_platform.limits.limiter import Holder, Limiter, Metric, Refused, Scope, Subject

log = logging.getLogger("museway.limits")

GATHER_S = 1.0
WAITING_MAX = 10_000
"""Kinds of refusals that wait for the database at most; further ones are counted in the log only."""
KEPT = timedelta(days=30)
_PRUNE_EVERY = 3600

_INSERT = """
insert into platform.refused_request (
    request_id, organization, project, key, mode, code, scope, scope_id, metric, limit_mode, "limit", used, held, asked,
    retry_after_s, holders, times, created)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
on conflict do nothing
"""
_LIST = """
select * from platform.refused_request
where organization = $1 and ($2::text is null or key = $2) and ($3::timestamptz is null or created < $3)
order by created desc, request_id desc limit $4
"""
_PRUNE = "delete from platform.refused_request where created < $1"


class RefusedRequest(Struct, frozen=True, kw_only=True):
    """One refusal. `asked`, `limit`, `used`, `held` are in the metric's unit (nano-USD of `spend` and `credit`).

    `times`: how many refusals of this key by this limit within a second it stands for. `holders`: who held most then.
    """

    request_id: str
    organization: str
    project: str
    key: str
    mode: str
    code: str
    scope: Scope
    scope_id: str
    metric: Metric
    limit_mode: str | None
    limit: int
    used: int
    held: int
    asked: int
    retry_after_s: float | None
    holders: Sequence[Holder]
    times: int
    created: datetime


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
                holders=await self._limiter.holders(subject.organization, state.scope_id),
                times=1,
                created=datetime.now(UTC),
            )
        )

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
                    await connection.executemany(_INSERT, [_row(waiting) for waiting in batch.values()])
                if prune:
                    await connection.execute(_PRUNE, datetime.now(UTC) - KEPT)
        except UNAVAILABLE:
            self._waiting = batch | self._waiting  # PostgreSQL is away: its watch says so


def _row(waiting: _Waiting) -> tuple[object, ...]:
    values = msgspec.structs.asdict(waiting.first) | {"times": waiting.times}
    values["holders"] = msgspec.json.encode(waiting.first.holders).decode()
    return tuple(values[name] for name in _FIELDS)


_FIELDS = tuple(field.name for field in msgspec.structs.fields(RefusedRequest))


async def refused_requests(
    connection: Connection, organization: str, *, key: str | None = None, before: datetime | None = None, limit: int
) -> list[RefusedRequest]:
    """The newest first, at most `limit` that are older than `before`."""
    return [_of(row) for row in await connection.fetch(_LIST, organization, key, before, limit)]


def _of(row: Record) -> RefusedRequest:
    values = dict(cast("dict[str, object]", row))
    values["holders"] = msgspec.json.decode(cast("str", values["holders"]), type=list[Holder])
    return msgspec.convert(values, RefusedRequest)
