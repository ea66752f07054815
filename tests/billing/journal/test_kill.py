"""kill -9, anywhere: every call that was dispatched has one record, billed at least what left and at most what was made."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from calls import BOOK, identity
from museway_billing.journal import Journal
from museway_billing.journal.drain import Drain
from museway_billing.journal.recovery import claim_dead
from museway_billing.money import NanoUsd
from museway_billing.prices.store import seed
from museway_billing.reconcile import Report, reconcile
from museway_billing.usage import State
from museway_platform.database.pool import Pool

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

TESTS = Path(__file__).parents[2]
TOKENS = 20
POINTS = [
    "slot opened",
    "dispatched",
    "slot updated",
    "token left",
    "append begun",
    "appended",
    "slot freed",
    "before commit",
    "after commit",
]


def victim(database: str, directory: Path, *point: str) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("victim.py")
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(
        [sys.executable, str(script), database, str(directory), *point], stdout=subprocess.PIPE, env=environment
    )


def delivered(output: bytes) -> dict[str, int]:
    """By record id, the tokens that left. A line cut short did not leave."""
    tokens: dict[str, int] = defaultdict(int)
    for line in output.split(b"\n")[:-1]:
        number, token = map(int, line.split())
        tokens[identity(number).record_id] = max(token, tokens[identity(number).record_id])
    return tokens


async def recovered(pool: Pool, directory: Path) -> Report:
    async def told(_: Mapping[str, NanoUsd]) -> None: ...

    journal = await Journal.open(directory, process="next")
    drain = Drain(pool, journal, host="h", on_drained=told)
    for claimed in await asyncio.to_thread(claim_dead, directory, ended=0):
        drain.adopt(claimed)
    await drain.close()
    await journal.close()
    async with pool.acquire() as connection:
        async with connection.transaction():
            assert (await seed(connection)).versions == BOOK.versions
        return await reconcile(connection, journals=directory)


async def judge(pool: Pool, directory: Path, output: bytes) -> None:
    report = await recovered(pool, directory)
    assert report.ok, report.differences
    assert report.journals == ()
    left = delivered(output)
    async with pool.acquire() as connection:
        rows = await connection.fetch("select id, state, output, unbilled from billing.usage")
    billed = {row["id"]: row["output"] for row in rows}
    assert len(billed) == len(rows)
    assert all(tokens <= billed[id_] <= TOKENS for id_, tokens in left.items())
    assert all(left[row["id"]] == TOKENS for row in rows if row["state"] == State.COMPLETE)
    assert {row["unbilled"] for row in rows if row["state"] == State.INTERRUPTED} <= {None}


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at(pool: Pool, database: str, tmp_path: Path, point: str) -> None:
    process = victim(database, tmp_path, point)
    output, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert len(delivered(output)) >= 16
    await judge(pool, tmp_path, output)


@pytest.mark.parametrize("lines", [1, 500, 1500, 4000])
async def test_killed_from_outside_while_it_is_busy(pool: Pool, database: str, tmp_path: Path, lines: int) -> None:
    process = victim(database, tmp_path)
    assert process.stdout is not None
    read = await asyncio.to_thread(lambda: b"".join(islice(process.stdout or (), lines)))
    process.kill()
    rest = await asyncio.to_thread(process.stdout.read)
    process.wait()
    process.stdout.close()
    await judge(pool, tmp_path, read + rest)
