"""SQL of identity. Every function takes a connection and never commits: the caller owns the transaction.

What is written here reaches every gateway within a second by `platform.change` (`museway_platform.database.watch`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

import msgspec
from asyncpg import ForeignKeyViolationError, UniqueViolationError

from museway_engine.completion import Mode
from museway_platform.database.pool import Connection, Record
from museway_platform.identity import keys
from museway_platform.identity.ids import new_id
from museway_platform.identity.organizations import (
    ApiKey,
    Member,
    NameTaken,
    NewKey,
    NotFound,
    Organization,
    Project,
    Role,
)
from museway_platform.identity.principal import Principal, Unauthenticated

T = TypeVar("T")

_KEY = """
    select k.id, p.organization, k.project, k.name, k.live, k.scopes, k.state, k.created, k.revoked, k.last_used
    from platform.api_key k join platform.project p on p.id = k.project
"""
_PRINCIPAL = """
    select o.id as organization, p.id as project, k.id as key, o.plan, k.live, p.default_mode, k.scopes,
        k.state as key_state, p.state as project_state, o.state as organization_state,
        coalesce(s.expires <= now(), false) as expired,
        extract(epoch from s.expires - now())::float8 as lives_s,
        array(
            select distinct d.what from platform.denial d
            where (d.scope, d.scope_id) in (('organization', o.id), ('project', p.id), ('key', k.id)) order by 1
        ) as denied
    from platform.api_key_secret s
    join platform.api_key k on k.id = s.api_key
    join platform.project p on p.id = k.project
    join platform.organization o on o.id = p.organization
    where s.sha256 = $1
"""


class Found(msgspec.Struct, frozen=True):
    """A principal, and for how many seconds its secret is valid (None: until it is revoked)."""

    principal: Principal
    lives_s: float | None


async def find(connection: Connection, sha256: bytes) -> Found | Unauthenticated:
    """Whose the secret of this digest is."""
    row = await connection.fetchrow(_PRINCIPAL, sha256)
    if row is None:
        return Unauthenticated("unknown")
    if row["key_state"] == "revoked":
        return Unauthenticated("revoked")
    if row["expired"]:
        return Unauthenticated("expired")
    if row["organization_state"] != "active" or row["project_state"] != "active":
        return Unauthenticated("suspended")
    return Found(_convert(row, Principal), row["lives_s"])


async def create_organization(
    connection: Connection, *, name: str, plan: str, allowance_nano_usd: int = 0
) -> Organization:
    """Raises NotFound where there is no such plan."""
    try:
        row = await connection.fetchrow(
            "insert into platform.organization (id, name, plan, allowance_nano_usd) values ($1, $2, $3, $4) returning *",
            new_id("org"),
            name,
            plan,
            allowance_nano_usd,
        )
    except ForeignKeyViolationError as error:
        raise NotFound("plan", plan) from error
    return _convert(row, Organization)


async def organization(connection: Connection, organization_id: str) -> Organization:
    """Raises NotFound."""
    row = await connection.fetchrow("select * from platform.organization where id = $1", organization_id)
    return _convert(_one(row, "organization", organization_id), Organization)


async def organizations(connection: Connection) -> list[Organization]:
    """All, oldest first."""
    rows = await connection.fetch("select * from platform.organization order by created, id")
    return [_convert(row, Organization) for row in rows]


async def update_organization(
    connection: Connection,
    organization_id: str,
    *,
    plan: str | None = None,
    state: str | None = None,
    allowance_nano_usd: int | None = None,
) -> Organization:
    """Change what is given; None leaves as it is. Raises NotFound (the organization or the plan)."""
    try:
        row = await connection.fetchrow(
            "update platform.organization set plan = coalesce($2, plan), state = coalesce($3, state), "
            "allowance_nano_usd = coalesce($4, allowance_nano_usd) where id = $1 returning *",
            organization_id,
            plan,
            state,
            allowance_nano_usd,
        )
    except ForeignKeyViolationError as error:
        raise NotFound("plan", plan or "") from error
    return _convert(_one(row, "organization", organization_id), Organization)


async def create_project(
    connection: Connection, organization_id: str, *, name: str, default_mode: Mode | None = None
) -> Project:
    """Raises NotFound (the organization), NameTaken."""
    try:
        row = await connection.fetchrow(
            "insert into platform.project (id, organization, name, default_mode) values ($1, $2, $3, $4) returning *",
            new_id("prj"),
            organization_id,
            name,
            default_mode,
        )
    except ForeignKeyViolationError as error:
        raise NotFound("organization", organization_id) from error
    except UniqueViolationError as error:
        raise NameTaken("project", name) from error
    return _convert(row, Project)


async def projects(connection: Connection, organization_id: str) -> list[Project]:
    """The organization's projects, oldest first."""
    rows = await connection.fetch(
        "select * from platform.project where organization = $1 order by created, id", organization_id
    )
    return [_convert(row, Project) for row in rows]


async def set_default_mode(connection: Connection, project_id: str, mode: Mode | None) -> Project:
    """Which mode answers where a request names none; None is the platform's own. Raises NotFound."""
    row = await connection.fetchrow(
        "update platform.project set default_mode = $2 where id = $1 returning *", project_id, mode
    )
    return _convert(_one(row, "project", project_id), Project)


async def create_key(
    connection: Connection, project_id: str, *, name: str, kind: keys.Kind = "live", scopes: Iterable[str] = ()
) -> NewKey:
    """A key with its first secret. Raises NotFound (the project)."""
    key_id = new_id("key")
    try:
        await connection.execute(
            "insert into platform.api_key (id, project, name, live, scopes) values ($1, $2, $3, $4, $5)",
            key_id,
            project_id,
            name,
            kind == "live",
            list(scopes),
        )
    except ForeignKeyViolationError as error:
        raise NotFound("project", project_id) from error
    return NewKey(await key(connection, key_id), await _add_secret(connection, key_id, kind))


async def key(connection: Connection, key_id: str) -> ApiKey:
    """Raises NotFound."""
    return _convert(_one(await connection.fetchrow(_KEY + "where k.id = $1", key_id), "key", key_id), ApiKey)


async def keys_of(connection: Connection, organization_id: str) -> list[ApiKey]:
    """The keys of all projects of the organization, revoked ones too, oldest first."""
    rows = await connection.fetch(_KEY + "where p.organization = $1 order by k.created, k.id", organization_id)
    return [_convert(row, ApiKey) for row in rows]


async def rotate_key(connection: Connection, key_id: str, *, overlap: timedelta = timedelta(0)) -> NewKey:
    """A new secret under the same id. Secrets before it are valid for `overlap` more, or end sooner if they did already.

    Raises NotFound where there is no such key or it is revoked.
    """
    found = await key(connection, key_id)
    if found.state == "revoked":
        raise NotFound("active key", key_id)
    await connection.execute(
        "update platform.api_key_secret set expires = least(expires, now() + $2) where api_key = $1", key_id, overlap
    )
    return NewKey(found, await _add_secret(connection, key_id, "live" if found.live else "test"))


async def revoke_key(connection: Connection, key_id: str) -> bool:
    """Refuse the key everywhere within a second. False where it was revoked before. Raises NotFound."""
    revoked = await connection.fetchval(
        "update platform.api_key set state = 'revoked', revoked = now() where id = $1 and state = 'active' returning id",
        key_id,
    )
    if revoked is None:
        await key(connection, key_id)
    return revoked is not None


async def touch_keys(connection: Connection, key_ids: Iterable[str]) -> None:
    """Note that these keys were used about now."""
    await connection.execute("update platform.api_key set last_used = now() where id = any($1)", sorted(key_ids))


async def deny(connection: Connection, scope: str, scope_id: str, what: str) -> None:
    """Refuse `mode:<mode>` or `model:<model>` to an organization, project or key. Twice is once."""
    await connection.execute(
        "insert into platform.denial (scope, scope_id, what) values ($1, $2, $3) on conflict do nothing",
        scope,
        scope_id,
        what,
    )


async def allow(connection: Connection, scope: str, scope_id: str, what: str) -> bool:
    """Take a denial back. False where there was none."""
    status = await connection.execute(
        "delete from platform.denial where scope = $1 and scope_id = $2 and what = $3", scope, scope_id, what
    )
    return status != "DELETE 0"


async def add_member(connection: Connection, organization_id: str, *, email: str, role: Role) -> Member:
    """Make the person of this address a member, or change the role. Raises NotFound (the organization)."""
    person = await connection.fetchval(
        "insert into platform.person (id, email) values ($1, lower($2)) "
        "on conflict (email) do update set email = excluded.email returning id",
        new_id("usr"),
        email,
    )
    try:
        await connection.execute(
            "insert into platform.member (organization, person, role) values ($1, $2, $3) "
            "on conflict (organization, person) do update set role = excluded.role",
            organization_id,
            person,
            role,
        )
    except ForeignKeyViolationError as error:
        raise NotFound("organization", organization_id) from error
    return next(member for member in await members(connection, organization_id) if member.person == person)


async def members(connection: Connection, organization_id: str) -> list[Member]:
    """Who belongs to the organization, oldest first."""
    rows = await connection.fetch(
        "select m.person, p.email, m.role, m.created from platform.member m join platform.person p on p.id = m.person "
        "where m.organization = $1 order by m.created, m.person",
        organization_id,
    )
    return [_convert(row, Member) for row in rows]


async def _add_secret(connection: Connection, key_id: str, kind: keys.Kind) -> str:
    secret = keys.mint(kind)
    await connection.execute(
        "insert into platform.api_key_secret (sha256, api_key, hint) values ($1, $2, $3)",
        keys.digest(secret),
        key_id,
        keys.hint(secret),
    )
    return secret


def _one(row: Record | None, kind: str, subject: str) -> Record:
    if row is None:
        raise NotFound(kind, subject)
    return row


def _convert(row: Record | None, kind: type[T]) -> T:
    assert row is not None, "an insert returns its row"
    return msgspec.convert(dict(row), kind, strict=True)
