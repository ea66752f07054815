"""`museway orgs`: the customers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from museway_platform.cli.administration import Result, administer, organization
from museway_platform.cli.money import usd
from museway_platform.cli.prompt import Parser
from museway_platform.database.pool import Connection
from museway_platform.identity import store

FIRST_PROJECT = "Default"


def main(argv: Sequence[str]) -> int:
    parser = Parser("orgs", "The customers: each has projects, keys, a plan and a balance of its own.")
    actions = parser.actions()
    create = actions.add("create", _create, "a new organization, with one project named Default")
    create.add_argument("name")
    create.add_argument("--plan", default="standard", help="where its limits come from (default: %(default)s)")
    actions.add("list", _list, "all of them, oldest first")
    actions.add("show", _show, "one").add_argument("org", help="id or name")
    change = actions.add("set", _set, "change plan, state or allowance")
    change.add_argument("org", help="id or name")
    change.add_argument("--plan")
    change.add_argument("--state", choices=("active", "suspended"), help="a suspended one is refused within a second")
    change.add_argument("--allowance-usd", type=usd, metavar="USD", help="how far the balance may go below zero")
    return administer(parser, argv)


async def _create(connection: Connection, args: argparse.Namespace) -> Result:
    created = await store.create_organization(connection, name=args.name, plan=args.plan)
    await store.create_project(connection, created.id, name=FIRST_PROJECT)
    return created


async def _list(connection: Connection, _: argparse.Namespace) -> Result:
    return await store.organizations(connection)


async def _show(connection: Connection, args: argparse.Namespace) -> Result:
    return await organization(connection, args.org)


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    found = await organization(connection, args.org)
    return await store.update_organization(
        connection, found.id, plan=args.plan, state=args.state, allowance_nano_usd=args.allowance_usd
    )
