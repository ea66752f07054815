"""Organizations, projects, keys and their secrets in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from customers import customer
from museway_engine.completion import Mode
from museway_platform.database.pool import Pool
from museway_platform.identity import keys, store
from museway_platform.identity.organizations import NameTaken, NotFound
from museway_platform.identity.principal import Principal, Unauthenticated

pytestmark = pytest.mark.anyio


async def find(pool: Pool, secret: str) -> Principal | str:
    async with pool.acquire() as connection:
        found = await store.find(connection, keys.digest(secret))
    return found.reason if isinstance(found, Unauthenticated) else found.principal


async def test_a_secret_leads_to_its_principal(pool: Pool) -> None:
    acme = await customer(pool)
    assert await find(pool, acme.secret) == Principal(
        organization=acme.organization.id, project=acme.project.id, key=acme.key, plan="standard", live=True
    )


async def test_only_the_digest_is_stored(pool: Pool) -> None:
    acme = await customer(pool)
    rows = await pool.fetch(
        "select to_jsonb(s)::text as secret, to_jsonb(k)::text as key from platform.api_key_secret s, platform.api_key k"
    )
    for row in rows:
        assert acme.secret not in row["secret"] + row["key"]
        assert acme.secret[8:35] not in row["secret"] + row["key"]


async def test_an_unknown_secret(pool: Pool) -> None:
    assert await find(pool, keys.mint("live")) == "unknown"


async def test_a_revoked_key_is_refused_with_all_its_secrets(pool: Pool) -> None:
    acme = await customer(pool)
    rotated = await store.rotate_key(pool_connection := await pool.acquire(), acme.key, overlap=timedelta(hours=1))
    assert await store.revoke_key(pool_connection, acme.key)
    assert not await store.revoke_key(pool_connection, acme.key)
    await pool.release(pool_connection)
    assert [await find(pool, secret) for secret in (acme.secret, rotated.secret)] == ["revoked", "revoked"]


async def test_rotation_keeps_the_id_and_ends_the_old_secret(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        rotated = await store.rotate_key(connection, acme.key)
    assert rotated.key.id == acme.key
    assert await find(pool, acme.secret) == "expired"
    assert isinstance(await find(pool, rotated.secret), Principal)


async def test_rotation_with_an_overlap_leaves_both_valid(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        rotated = await store.rotate_key(connection, acme.key, overlap=timedelta(hours=1))
        found = await store.find(connection, keys.digest(acme.secret))
    assert isinstance(found, store.Found)
    assert found.lives_s is not None
    assert 3500 < found.lives_s <= 3600
    assert isinstance(await find(pool, rotated.secret), Principal)


async def test_a_later_rotation_does_not_lengthen_an_earlier_end(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        await store.rotate_key(connection, acme.key)
        await store.rotate_key(connection, acme.key, overlap=timedelta(hours=1))
    assert await find(pool, acme.secret) == "expired"


async def test_a_suspended_organization(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        await store.update_organization(connection, acme.organization.id, state="suspended")
    assert await find(pool, acme.secret) == "suspended"


async def test_default_mode_scopes_and_denials_travel(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        await store.set_default_mode(connection, acme.project.id, Mode.THINKING)
        await store.deny(connection, "key", acme.key, "mode:contemplating")
        await store.deny(connection, "organization", acme.organization.id, "mode:auto")
        limited = await store.create_key(connection, acme.project.id, name="reader", kind="test", scopes=["usage:read"])
    principal = await find(pool, acme.secret)
    assert isinstance(principal, Principal)
    assert principal.default_mode is Mode.THINKING
    assert principal.denied == ("mode:auto", "mode:contemplating")
    assert principal.may("inference")
    reader = await find(pool, limited.secret)
    assert isinstance(reader, Principal)
    assert (reader.live, reader.may("usage:read"), reader.may("inference")) == (False, True, False)
    async with pool.acquire() as connection:
        assert await store.allow(connection, "key", acme.key, "mode:contemplating")
        assert not await store.allow(connection, "key", acme.key, "mode:contemplating")


async def test_what_does_not_exist_is_named(pool: Pool) -> None:
    acme = await customer(pool)
    async with pool.acquire() as connection:
        with pytest.raises(NotFound, match="plan gold does not exist"):
            await store.create_organization(connection, name="x", plan="gold")
        with pytest.raises(NotFound, match="organization org_x does not exist"):
            await store.create_project(connection, "org_x", name="x")
        with pytest.raises(NotFound, match="project prj_x does not exist"):
            await store.create_key(connection, "prj_x", name="x")
        with pytest.raises(NotFound, match="key key_x does not exist"):
            await store.revoke_key(connection, "key_x")
        with pytest.raises(NotFound, match="key key_x does not exist"):
            await store.rotate_key(connection, "key_x")
        with pytest.raises(NotFound, match="plan gold does not exist"):
            await store.update_organization(connection, acme.organization.id, plan="gold")
        with pytest.raises(NameTaken, match="a project named 'web' exists"):
            await store.create_project(connection, acme.organization.id, name="web")


async def test_lists(pool: Pool) -> None:
    acme, other = await customer(pool), await customer(pool)
    async with pool.acquire() as connection:
        assert await store.organizations(connection) == [acme.organization, other.organization]
        assert await store.projects(connection, acme.organization.id) == [acme.project]
        assert [key.id for key in await store.keys_of(connection, acme.organization.id)] == [acme.key]
        await store.add_member(connection, acme.organization.id, email="Ada@Example.org", role="owner")
        ada = await store.add_member(connection, acme.organization.id, email="ada@example.org", role="billing")
        assert await store.members(connection, acme.organization.id) == [ada]
        assert (ada.email, ada.role) == ("ada@example.org", "billing")
        assert await store.members(connection, other.organization.id) == []


async def test_a_new_key_does_not_show_its_secret_by_accident(pool: Pool) -> None:
    acme = await customer(pool)
    assert acme.secret not in repr(acme)
