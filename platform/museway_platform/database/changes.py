"""Reading `platform.change` without missing a row that commits late."""

from __future__ import annotations

from msgspec import Struct

from museway_platform.database.pool import Connection

_HORIZON = "select pg_snapshot_xmin(pg_current_snapshot())::text"
_SINCE = """
    select kind, subject, pg_snapshot_xmin(pg_current_snapshot())::text as horizon
    from platform.change where transaction >= $1::text::xid8
    union all
    select '', '', pg_snapshot_xmin(pg_current_snapshot())::text
"""
_PRUNE = "delete from platform.change where created < now() - interval '1 day'"


class Change(Struct, frozen=True):
    """`kind`: plan, organization, project, key, limits. `subject`: the id of what changed (for limits: of its scope)."""

    kind: str
    subject: str


class ChangeReader:
    """A place in the log of changes. A change may be read more than once, never not at all."""

    def __init__(self) -> None:
        self._horizon: str | None = None

    async def read(self, connection: Connection) -> list[Change] | None:
        """What changed since the last call, in no order; None the first time: whatever was cached before is worth
        nothing then."""
        if self._horizon is None:
            self._horizon = await connection.fetchval(_HORIZON)
            return None
        # Every row of a transaction below the horizon was visible when the horizon was taken; every other row, the ones
        # still open then included, has a transaction at or above it.
        rows = await connection.fetch(_SINCE, self._horizon)
        self._horizon = rows[0]["horizon"]
        return list({Change(row["kind"], row["subject"]) for row in rows if row["kind"]})


async def prune(connection: Connection) -> None:
    """Forget changes that are a day old: a process that was away longer has dropped what it cached."""
    await connection.execute(_PRUNE)
