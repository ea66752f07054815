"""The directory: from memory where it may, from the store where it must, and honest where it cannot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from customers import customer
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import migrate
from museway_platform.database.pool import Connection, Pool, open_connection, open_pool
from museway_platform.database.watch import Watch
from museway_platform.identity import keys, store
from museway_platform.identity.directory import KNOWN_SERVE_S, Directory, DirectoryUnavailable
from museway_platform.identity.principal import Principal, Unauthenticated
from postgres import throw_away_server

pytestmark = pytest.mark.anyio


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rounds:
    """The polls of a directory, run as the gateway runs them; tells when each is over."""

    def __init__(self, dsn: str, directory: Directory, *channels: str) -> None:
        self.directory = directory
        self.watch = Watch(dsn, channels, (directory.poll, self._over))
        self._ends: asyncio.Queue[float] = asyncio.Queue()

    async def _over(self, _: Connection) -> None:
        self._ends.put_nowait(time.monotonic())

    async def caught_up(self) -> None:
        await asyncio.wait_for(self.watch.caught_up(), 10)

    async def refused_after_s(self, secret: str) -> float:
        """How long from now until the secret is refused; nobody hurries the poll."""
        began = time.monotonic()
        async with asyncio.timeout(5):
            while isinstance(await self.directory.authenticate(secret), Principal):
                await self._ends.get()
        return time.monotonic() - began


@asynccontextmanager
async def watched(dsn: str, directory: Directory, *channels: str) -> AsyncGenerator[Rounds]:
    rounds = Rounds(dsn, directory, *channels)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(rounds.watch.run())
        await rounds.caught_up()
        try:
            yield rounds
        finally:
            running.cancel()


async def test_a_hit_needs_no_store(database: str, pool: Pool) -> None:
    acme = await customer(pool)
    directory = Directory(pool)
    async with watched(database, directory):
        assert directory.cached(acme.secret) is None
        principal = await directory.authenticate(acme.secret)
        assert isinstance(principal, Principal)
        assert directory.cached(acme.secret) is principal
        assert await directory.authenticate(acme.secret) is principal


async def test_before_the_first_poll_nothing_is_served_from_memory(pool: Pool) -> None:
    acme = await customer(pool)
    directory = Directory(pool)
    assert isinstance(await directory.authenticate(acme.secret), Principal)
    assert directory.cached(acme.secret) is None


async def test_junk_is_refused_without_a_look_up() -> None:
    async with open_pool("postgresql://nobody@/none?host=/nonexistent", connections_min=0) as nowhere:
        directory = Directory(nowhere)
        for junk in ("", "mw_live_", "sk-123", keys.mint("live")[:-1], keys.mint("live") + "0", "\ud800"):
            assert await directory.authenticate(junk) == Unauthenticated("malformed")
        with pytest.raises(DirectoryUnavailable):
            await directory.authenticate(keys.mint("live"))


@pytest.mark.parametrize("channels", [("museway_identity",), ()], ids=["notified", "every notification lost"])
async def test_a_revoked_key_is_refused_within_a_second(database: str, pool: Pool, channels: tuple[str, ...]) -> None:
    acme = await customer(pool)
    directory = Directory(pool)
    async with watched(database, directory, *channels) as rounds:
        assert isinstance(await directory.authenticate(acme.secret), Principal)
        async with pool.acquire() as connection:
            await store.revoke_key(connection, acme.key)
        assert await rounds.refused_after_s(acme.secret) < 1.0
        assert await directory.authenticate(acme.secret) == Unauthenticated("revoked")


async def test_a_revocation_that_commits_late_is_seen(database: str, pool: Pool) -> None:
    """It takes its place in the log of changes before another change that is committed, and read, first."""
    acme, other = await customer(pool), await customer(pool)
    directory = Directory(pool)
    async with watched(database, directory) as rounds, open_connection(database) as slow:
        assert isinstance(await directory.authenticate(acme.secret), Principal)
        transaction = slow.transaction()
        await transaction.start()
        await store.revoke_key(slow, acme.key)
        async with pool.acquire() as connection:
            await store.revoke_key(connection, other.key)
        await rounds.caught_up()
        assert isinstance(await directory.authenticate(acme.secret), Principal)
        await transaction.commit()
        assert await rounds.refused_after_s(acme.secret) < 1.0


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("update platform.organization set state = 'suspended'", "suspended"),
        ("update platform.project set state = 'archived'", "suspended"),
        ("delete from platform.api_key_secret", "unknown"),
        ("update platform.organization set plan = 'trial'", "trial"),
        ("update platform.project set default_mode = 'auto'", "auto"),
        ("insert into platform.denial select 'organization', id, 'mode:auto' from platform.organization", "mode:auto"),
    ],
)
async def test_every_change_arrives_also_one_made_by_hand(database: str, pool: Pool, sql: str, expected: str) -> None:
    acme = await customer(pool)
    directory = Directory(pool)
    async with watched(database, directory) as rounds:
        await directory.authenticate(acme.secret)
        await pool.execute(sql)
        await rounds.caught_up()
        answer = await directory.authenticate(acme.secret)
        if isinstance(answer, Unauthenticated):
            assert answer.reason == expected
        else:
            assert expected in (answer.plan, answer.default_mode, *answer.denied)


async def test_a_key_made_after_it_was_guessed_works_at_once(database: str, pool: Pool) -> None:
    acme = await customer(pool)
    directory = Directory(pool)
    async with watched(database, directory) as rounds:
        secret = keys.mint("live")
        assert await directory.authenticate(secret) == Unauthenticated("unknown")
        await pool.execute("insert into platform.api_key_secret values ($1, $2, '')", keys.digest(secret), acme.key)
        await rounds.caught_up()
        assert isinstance(await directory.authenticate(secret), Principal)


async def test_an_unknown_secret_asks_the_store_once(database: str) -> None:
    async with open_pool(database) as pool:
        directory = Directory(pool)
        async with watched(database, directory):
            secret = keys.mint("live")
            assert await directory.authenticate(secret) == Unauthenticated("unknown")
            await pool.close()  # another question would be DirectoryUnavailable
            assert await directory.authenticate(secret) == Unauthenticated("unknown")
            with pytest.raises(DirectoryUnavailable):
                await directory.authenticate(keys.mint("live"))


async def test_a_rotated_secret_ends_on_time_without_any_change(database: str, pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        await store.rotate_key(connection, acme.key, overlap=timedelta(seconds=30))
    clock = Clock()
    directory = Directory(pool, clock=clock, known_serve_s=1000)
    async with watched(database, directory):
        assert isinstance(await directory.authenticate(acme.secret), Principal)
        clock.now += 29
        assert directory.cached(acme.secret) is not None
        clock.now += 2
        assert directory.cached(acme.secret) is None


async def test_who_is_new_is_introduced_before_the_first_answer(pool: Pool) -> None:
    acme = await customer(pool)
    introduced: list[tuple[str, ...]] = []

    async def introduce(*owners: str) -> None:
        introduced.append(owners)

    await Directory(pool, introduce=introduce).authenticate(acme.secret)
    assert introduced == [(acme.organization.id, acme.project.id, acme.key)]


async def test_used_keys_are_noted(database: str, pool: Pool) -> None:
    acme = await customer(pool)
    clock = Clock()
    directory = Directory(pool, clock=clock)
    async with watched(database, directory) as rounds:
        await directory.authenticate(acme.secret)
        clock.now += 61
        await rounds.caught_up()
    assert await pool.fetchval("select last_used from platform.api_key where id = $1", acme.key) is not None


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that the test may stop."""
    with throw_away_server() as server:
        asyncio.run(migrate(server.dsn))
        yield server


async def test_with_postgres_away_known_keys_serve_for_a_minute(own_server: EmbeddedPostgres) -> None:
    clock = Clock()
    async with open_pool(own_server.dsn, connections_min=0) as pool:
        acme = await customer(pool)
        directory = Directory(pool, clock=clock)
        async with watched(own_server.dsn, directory):
            assert isinstance(await directory.authenticate(acme.secret), Principal)
            await asyncio.to_thread(own_server.stop)
            assert directory.cached(acme.secret) is not None
            with pytest.raises(DirectoryUnavailable):
                await directory.authenticate(keys.mint("live"))
            clock.now += KNOWN_SERVE_S - 0.1
            assert isinstance(await directory.authenticate(acme.secret), Principal)
            clock.now += 0.2
            assert directory.cached(acme.secret) is None
            with pytest.raises(DirectoryUnavailable):
                await directory.authenticate(acme.secret)


async def test_when_postgres_is_back_so_is_everything(own_server: EmbeddedPostgres) -> None:
    async with open_pool(own_server.dsn, connections_min=0) as pool:
        acme = await customer(pool)
        directory = Directory(pool)
        async with watched(own_server.dsn, directory) as rounds:
            assert isinstance(await directory.authenticate(acme.secret), Principal)
            await asyncio.to_thread(own_server.stop)
            await asyncio.to_thread(own_server.start)
            async with pool.acquire() as connection:
                await store.revoke_key(connection, acme.key)
            await rounds.caught_up()
            assert await directory.authenticate(acme.secret) == Unauthenticated("revoked")
