"""How long `museway reconcile` takes and how much memory it needs: python -m bench.books RECORDS.

The records are copies of one, spread over ten organizations, written by SQL with everything that belongs to them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time

from calls import record
from museway_billing.journal.store import insert_usage
from museway_billing.ledger.store import post_usage_batch
from museway_billing.prices.store import seed
from museway_billing.reports.rollup import roll_up
from museway_billing.reports.store import add_rollups
from museway_platform.database.migrate import migrate
from museway_platform.database.pool import Connection, open_connection
from postgres import throw_away_server

ORGANIZATIONS = 10

_USAGE = """
insert into billing.usage select (jsonb_populate_record(u, jsonb_build_object(
    'created', u.created + n * interval '10 ms', 'id', 'use_' || $1 || '_' || n, 'request_id', 'req_' || $1 || '_' || n,
    'rid', 'req_' || $1 || '_' || n || '.a000000000', 'organization', $1::text, 'posted', now()))).*
from billing.usage u, generate_series(1, $2::integer) n where u.organization = 'org_a'
"""
_ACCOUNTS = """
insert into billing.account (id, organization, kind, debits, credits)
values ('receivable:' || $1, $1, 'receivable', $2, 0), ('revenue:' || $1, $1, 'revenue', 0, $2)
"""
_TRANSFERS = """
insert into billing.transfer (id, source, kind, organization, debit, credit, amount)
select id || ':0', id, 'usage', $1, 'receivable:' || $1, 'revenue:' || $1, amount_nano_usd
from billing.usage where organization = $1
"""
_OUTBOX = "insert into billing.outbox (identifier, organization, amount) values ('all:' || $1, $1, $2)"
_ROLLUPS = """
insert into billing.usage_rollup (hour, organization, project, key, mode, model, class, tokens, amount_nano_usd, requests)
select date_trunc('hour', created, 'UTC'), organization, project, key, mode, model, class, sum(tokens), sum(amount), sum(requests)
from billing.usage, lateral (
    select line ->> 0 as class, (line ->> 1)::bigint as tokens, (line ->> 3)::bigint as amount, 0 as requests
    from jsonb_array_elements(lines) line union all select 'request', 0, 0, 1
) part where organization = $1 group by 1, 2, 3, 4, 5, 6, 7
"""


async def fill(dsn: str, records: int) -> None:
    """One record by the drain's own functions, all others as its copies."""
    await migrate(dsn)
    one = record(1)
    async with open_connection(dsn, statement_timeout_s=None) as connection:
        async with connection.transaction():
            await seed(connection)
            inserted = await insert_usage(connection, [one])
            await post_usage_batch(connection, inserted.records, batch="first")
            await add_rollups(connection, roll_up(inserted.records, inserted.requests))
        await connection.execute("set session_replication_role = replica")  # foreign keys are the copies' too
        for number in range(ORGANIZATIONS):
            await _copy(connection, f"org_{number:02}", records // ORGANIZATIONS, one.amount_nano_usd)
        await connection.execute("analyze")


async def _copy(connection: Connection, organization: str, records: int, amount: int) -> None:
    async with connection.transaction():
        await connection.execute(_USAGE, organization, records)
        await connection.execute(_ACCOUNTS, organization, records * amount)
        await connection.execute(_TRANSFERS, organization)
        await connection.execute(_OUTBOX, organization, records * amount)
        await connection.execute(_ROLLUPS, organization)


def main() -> None:
    records = int(sys.argv[1])
    with throw_away_server() as server, tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(server.dsn, records))
        environment = {**os.environ, "MUSEWAY_DATABASE_URL": server.dsn, "MUSEWAY_DATA_DIR": folder}
        began = time.monotonic()
        command = subprocess.Popen([sys.executable, "-m", "museway_platform", "reconcile"], env=environment)
        _, status, usage = os.wait4(command.pid, 0)  # its own memory: PostgreSQL's is another matter
        took = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    sys.stdout.write(f"{records:,} records: {took:.1f} s, at most {usage.ru_maxrss // 1024} MiB, exit {code}\n")


if __name__ == "__main__":
    main()
