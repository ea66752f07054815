"""SQL of what keeps shared counters whole: their generation, and the processes that count in it. Takes a connection."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from museway_platform.database.pool import Connection
from museway_platform.limits.limiter import Used

_GENERATION = "select generation, server, built, deployment from platform.limiter_generation"
_BEGIN = """
insert into platform.limiter_generation (generation, server, reason) values ($1 + 1, $2, $3)
on conflict (single) do update set generation = excluded.generation, server = excluded.server, reason = excluded.reason,
    built = false, begun = now()
where platform.limiter_generation.generation = $1
"""
_JOIN = """
insert into platform.limiter_member (journal, generation, drained) values ($1, $2, $3)
on conflict (journal) do update set generation = excluded.generation, drained = excluded.drained
"""
_MEMBERS = """
select m.journal, m.generation, m.drained = j.drained_sequence as level, j.closed is not null as gone
from platform.limiter_member m join billing.journal j on j.id = m.journal order by m.journal
"""
# One hold a request, and they share the ULID: usage is found by its request.
_USED = """
select hold_id, coalesce(sum(input), 0)::bigint as input, coalesce(sum(cached_input), 0)::bigint as cached,
    coalesce(sum(coalesce(reasoning, 0) + coalesce(output, 0)), 0)::bigint as output,
    sum(amount_nano_usd - credited_nano_usd + reserve_nano_usd)::bigint as amount
from billing.usage where request_id = any($1) group by hold_id
"""


class Generation(Struct, frozen=True):
    """`server`: in which the counters are. `built`: they are whole, and accounts are open. `deployment`: this database."""

    number: int
    server: str
    built: bool
    deployment: str


class Member(Struct, frozen=True):
    """A process that counts. `generation`: in which it told all that it knew. `level`: nothing of it was drained since then.
    `gone`: its journal is closed, all of it is in the ledger."""

    journal: str
    generation: int
    level: bool
    gone: bool


async def generation(connection: Connection, *, lock: bool = False) -> Generation | None:
    row = await connection.fetchrow(_GENERATION + (" for update" if lock else ""))
    if row is None:
        return None
    return Generation(row["generation"], row["server"], row["built"], row["deployment"])


async def begin_generation(connection: Connection, *, after: int, server: str, reason: str) -> bool:
    """Everything is counted anew from now on. False where another process was faster."""
    return await connection.execute(_BEGIN, after, server, reason) != "INSERT 0 0"


async def built(connection: Connection, number: int) -> None:
    await connection.execute("update platform.limiter_generation set built = true where generation = $1", number)


async def join(connection: Connection, journal: str, *, generation: int, drained: int) -> None:
    """The process of this journal told all that it knew, as of its record `drained`."""
    await connection.execute(_JOIN, journal, generation, drained)


async def members(connection: Connection) -> list[Member]:
    return [
        Member(row["journal"], row["generation"], row["level"], row["gone"]) for row in await connection.fetch(_MEMBERS)
    ]


async def leave(connection: Connection, journal: str) -> None:
    await connection.execute("delete from platform.limiter_member where journal = $1", journal)


async def organizations(connection: Connection) -> list[str]:
    """Of all that may have an account."""
    return [row["id"] for row in await connection.fetch("select id from platform.organization order by id")]


async def used(connection: Connection, hold_ids: Sequence[str]) -> dict[str, Used]:
    """What the ledger has of these holds; nothing of those that came to nothing."""
    requests = ["req_" + hold_id.removeprefix("hold_") for hold_id in hold_ids]
    return {
        row["hold_id"]: Used(
            input_tokens=row["input"], cached_tokens=row["cached"], output_tokens=row["output"], amount=row["amount"]
        )
        for row in await connection.fetch(_USED, requests)
    }
