"""`museway projects`: what an organization's keys belong to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from museway_platform.cli.administration import Result, administer, organization, project
from museway_platform.cli.prompt import Parser
from museway_platform.database.pool import Connection
from museway_platform.identity import store

_MODES = ("instant", "thinking", "contemplating", "auto")


def main(argv: Sequence[str]) -> int:
    parser = Parser("projects", "Projects: limits, caps and a default mode between organization and key.")
    actions = parser.actions()
    create = actions.add("create", _create, "a new project")
    create.add_argument("name")
    create.add_argument("--org", required=True, help="id or name")
    create.add_argument("--default-mode", choices=_MODES, help="how it answers where a request does not say")
    actions.add("list", _list, "an organization's, oldest first").add_argument(
        "--org", required=True, help="id or name"
    )
    change = actions.add("set", _set, "change the default mode")
    change.add_argument("project", help="id or name")
    change.add_argument("--org", required=True, help="id or name")
    change.add_argument("--default-mode", choices=(*_MODES, "none"), required=True)
    return administer(parser, argv)


async def _create(connection: Connection, args: argparse.Namespace) -> Result:
    owner = await organization(connection, args.org)
    return await store.create_project(connection, owner.id, name=args.name, default_mode=args.default_mode)


async def _list(connection: Connection, args: argparse.Namespace) -> Result:
    return await store.projects(connection, (await organization(connection, args.org)).id)


async def _set(connection: Connection, args: argparse.Namespace) -> Result:
    found = await project(connection, await organization(connection, args.org), args.project)
    mode = None if args.default_mode == "none" else args.default_mode
    return await store.set_default_mode(connection, found.id, mode)
