"""The fixtures that every other test of PostgreSQL stands on."""

from __future__ import annotations

import pytest

from museway_platform.database.pool import Pool, open_connection

pytestmark = pytest.mark.anyio


async def test_a_clone_is_migrated(pool: Pool) -> None:
    assert await pool.fetchval("select count(*) from platform.migration") > 0


@pytest.mark.parametrize("turn", [1, 2])
async def test_no_test_sees_what_another_wrote(database: str, turn: int) -> None:
    async with open_connection(database) as connection:
        assert await connection.fetchval("select count(*) from platform.organization") == 0
        await connection.execute(
            "insert into platform.organization (id, name, plan) values ('org_1', $1, 'trial')", str(turn)
        )
