"""An organization with a project and a key, for tests of rooms that need somebody who asks."""

from __future__ import annotations

from msgspec import Struct

from museway_platform.database.pool import Pool
from museway_platform.identity import store
from museway_platform.identity.organizations import NewKey, Organization, Project


class Customer(Struct, frozen=True):
    organization: Organization
    project: Project
    new_key: NewKey

    @property
    def secret(self) -> str:
        return self.new_key.secret

    @property
    def key(self) -> str:
        return self.new_key.key.id


async def customer(pool: Pool, *, plan: str = "standard") -> Customer:
    async with pool.acquire() as connection, connection.transaction():
        organization = await store.create_organization(connection, name="Acme", plan=plan)
        project = await store.create_project(connection, organization.id, name="web")
        return Customer(organization, project, await store.create_key(connection, project.id, name="first"))
