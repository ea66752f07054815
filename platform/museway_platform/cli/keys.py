"""`museway keys`: who may ask. A secret is shown once; nothing can show it again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from museway_platform.cli.administration import Result, administer, key, organization, project
from museway_platform.cli.prompt import Parser
from museway_platform.database.pool import Connection
from museway_platform.identity import store
from museway_platform.identity.keys import Kind
from museway_platform.identity.organizations import NewKey


class Issued(Struct, frozen=True, kw_only=True):
    """A key as it is shown the one time that its secret is known. `key` is the secret."""

    id: str
    key: str
    organization: str
    project: str
    name: str
    live: bool
    created: datetime


class Revoked(Struct, frozen=True, kw_only=True):
    """`revoked_now` is False where it was revoked before."""

    id: str
    revoked_now: bool


def main(argv: Sequence[str]) -> int:
    parser = Parser("keys", "API keys. A change reaches every gateway within a second.")
    actions = parser.actions()
    create = actions.add("create", _create, "a new key; its secret is shown this once")
    create.add_argument("--org", required=True, help="id or name")
    create.add_argument("--project", help="id or name (default: the organization's oldest)")
    create.add_argument("--name", default="key", help="to tell it from others (default: %(default)s)")
    create.add_argument("--test", action="store_true", help="a mw_test_ key")
    listing = actions.add("list", _list, "an organization's keys, revoked ones too; no secrets")
    listing.add_argument("--org", required=True, help="id or name")
    rotate = actions.add("rotate", _rotate, "a new secret under the same id")
    rotate.add_argument("key", help="the key's id")
    rotate.add_argument("--overlap-hours", type=int, default=0, help="how long old secrets stay valid (default: 0)")
    actions.add("revoke", _revoke, "refuse it from now on").add_argument("key", help="the key's id")
    return administer(parser, argv)


def issued(new: NewKey) -> Issued:
    return Issued(
        id=new.key.id,
        key=new.secret,
        organization=new.key.organization,
        project=new.key.project,
        name=new.key.name,
        live=new.key.live,
        created=new.key.created,
    )


async def _create(connection: Connection, args: argparse.Namespace) -> Result:
    where = await project(connection, await organization(connection, args.org), args.project)
    kind: Kind = "test" if args.test else "live"
    return issued(await store.create_key(connection, where.id, name=args.name, kind=kind))


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    return await store.keys_of(connection, (await organization(connection, args.org)).id)


async def _rotate(connection: Connection, args: argparse.Namespace) -> Result:
    found = await key(connection, args.key)
    return issued(await store.rotate_key(connection, found.id, overlap=timedelta(hours=args.overlap_hours)))


async def _revoke(connection: Connection, args: argparse.Namespace) -> Result:
    found = await key(connection, args.key)
    return Revoked(id=found.id, revoked_now=await store.revoke_key(connection, found.id))
