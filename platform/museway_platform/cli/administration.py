"""What the administrative commands share: the database at hand, one transaction, names beside ids."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TypeVar

from msgspec import Struct

from museway_billing.ledger.transfer import TransferRefused
from museway_billing.prices import PriceRefused
from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.show import show
from museway_platform.database.embedded import EmbeddedPostgres
from museway_platform.database.migrate import migrate, pending
from museway_platform.database.pool import UNAVAILABLE, Connection, open_connection
from museway_platform.identity import store
from museway_platform.identity.organizations import ApiKey, NameTaken, NotFound, Organization, Project
from museway_platform.limits.limiter import Scope
from museway_platform.settings import Settings

Result = Struct | Sequence[Struct]
Action = Callable[[Connection, argparse.Namespace], Awaitable[Result]]


def administer(parser: Parser, argv: Sequence[str]) -> int:
    """Run the chosen verb, an `Action`, in one transaction on the database at hand, and show what it gives."""

    def run(args: argparse.Namespace) -> int:
        with database(Settings.load()) as dsn:
            result = asyncio.run(in_transaction(dsn, lambda connection: args.run(connection, args)))
        show(result, as_json=args.json)
        return 0

    return answer(parser, argv, run)


async def in_transaction(dsn: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Raises Failure for what a person can mend: no such thing, a name that is taken, no database."""
    try:
        async with open_connection(dsn) as connection, connection.transaction():
            return await work(connection)
    except (NotFound, NameTaken, TransferRefused, PriceRefused) as error:
        raise Failure(str(error)) from error
    except UNAVAILABLE as error:
        raise Failure(f"the database does not answer: {error or type(error).__name__}") from error


@contextlib.contextmanager
def database(settings: Settings) -> Generator[str]:
    """The DSN of DATABASE_URL, else of the data directory's own PostgreSQL: the one a running `up` has, or else one
    that runs for as long as this command. Never makes a data directory: a typo would look like an empty ledger.

    Call it from the main thread, outside of any event loop. Raises Failure where there is neither, or where the schema is
    not this program's.
    """
    if settings.database_url is not None:
        _require_head(settings.database_url.reveal())
        yield settings.database_url.reveal()
        return
    if not (settings.data_dir / "pgdata").exists():
        raise Failure(
            f"no database: {settings.data_dir} has none yet; start `museway up`, or set MUSEWAY_DATABASE_URL or"
            " MUSEWAY_DATA_DIR"
        )
    server = EmbeddedPostgres(settings.data_dir)
    try:
        dsn = server.borrow_or_start()
        if server.owned:
            asyncio.run(migrate(dsn))
        else:
            _require_head(dsn)
        yield dsn
    finally:
        server.stop()


def _require_head(dsn: str) -> None:
    try:
        missing = asyncio.run(pending(dsn))
    except UNAVAILABLE as error:
        raise Failure(f"the database does not answer: {error or type(error).__name__}") from error
    if missing:
        raise Failure(f"the database's schema is old ({', '.join(missing)} to apply): run `museway migrate`")


# -- names beside ids
async def organization(connection: Connection, text: str) -> Organization:
    """By id, or by a name that only one has. Raises Failure."""
    if text.startswith("org_"):
        return await store.organization(connection, text)
    return _only([one for one in await store.organizations(connection) if one.name == text], "organization", text)


async def project(connection: Connection, owner: Organization, text: str | None) -> Project:
    """By id or name; the oldest where `text` is None. Raises Failure."""
    projects = await store.projects(connection, owner.id)
    if text is None:
        if not projects:
            raise Failure(f"{owner.name} has no project: museway projects create --org {owner.id} NAME")
        return projects[0]
    return _only([one for one in projects if text in {one.id, one.name}], "project", text)


async def key(connection: Connection, text: str) -> ApiKey:
    """By id. Raises NotFound."""
    return await store.key(connection, text)


_T = TypeVar("_T", Organization, Project)


def _only(found: list[_T], kind: str, text: str) -> _T:
    if not found:
        raise Failure(f"no {kind} is called {text!r}")
    if len(found) > 1:
        raise Failure(f"{len(found)} have the name {text!r}: {', '.join(one.id for one in found)}; give the id")
    return found[0]


async def scope(connection: Connection, args: argparse.Namespace) -> tuple[Scope, str]:
    """The scope and id that `--org`, `--project` and `--key` name; the narrowest counts. Raises Failure."""
    if args.key is not None:
        return "key", (await key(connection, args.key)).id
    if args.org is None:
        raise Failure("say whose: --org, --org with --project, or --key", 2)
    owner = await organization(connection, args.org)
    if args.project is not None:
        return "project", (await project(connection, owner, args.project)).id
    return "organization", owner.id


def with_scope(parser: Parser) -> Parser:
    """The three arguments that `scope` reads."""
    parser.add_argument("--org", metavar="ORG", help="organization, by id or name")
    parser.add_argument("--project", metavar="PROJECT", help="one project of it, by id or name")
    parser.add_argument("--key", metavar="KEY", help="one key, by id")
    return parser
