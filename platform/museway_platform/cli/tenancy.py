"""The first customer of a data directory: organization, project, key and trial credit, made once."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct

from museway_billing.ledger import store as ledger
from museway_billing.ledger.account import GrantKind
from museway_billing.money import USD, NanoUsd
from museway_platform.cli.orgs import FIRST_PROJECT
from museway_platform.database.pool import Connection, open_connection
from museway_platform.identity import store
from museway_platform.identity.organizations import NewKey

ORGANIZATION = "Default"
KEY = "museway up"
PLAN = "unlimited"
TRIAL_CREDIT = NanoUsd(1_000 * USD)

# Of the secrets before: whoever still has yesterday's in a terminal shall not be refused by a restart.
_OVERLAP = timedelta(hours=24)


class Tenant(Struct, frozen=True, kw_only=True):
    """Who asks by default, with the secret of this start."""

    organization: str
    project: str
    key: str
    secret: str


async def first_tenant(dsn: str) -> Tenant:
    """The organization `Default` with its key: made at the first start, at later ones the same key with a new secret.

    The trial credit is granted with the organization, never again. Two first starts on one DATABASE_URL at the same moment
    may make two of that name; on one data directory there is only one `up`.
    """
    async with open_connection(dsn) as connection, connection.transaction():
        known = [one for one in await store.organizations(connection) if one.name == ORGANIZATION]
        new = await _renew(connection, known[0].id) if known else await _create(connection)
    return Tenant(organization=new.key.organization, project=new.key.project, key=new.key.id, secret=new.secret)


async def _renew(connection: Connection, organization: str) -> NewKey:
    """A new secret for the key of the first start; a new key where somebody revoked that one."""
    keys = [key for key in await store.keys_of(connection, organization) if key.name == KEY and key.state == "active"]
    if keys:
        return await store.rotate_key(connection, keys[0].id, overlap=_OVERLAP)
    projects = await store.projects(connection, organization)
    return await store.create_key(connection, projects[0].id, name=KEY)


async def _create(connection: Connection) -> NewKey:
    owner = await store.create_organization(connection, name=ORGANIZATION, plan=PLAN)
    project = await store.create_project(connection, owner.id, name=FIRST_PROJECT)
    await ledger.grant(connection, owner.id, TRIAL_CREDIT, f"txn_trial_{owner.id}", GrantKind.PROMOTIONAL)
    return await store.create_key(connection, project.id, name=KEY)
