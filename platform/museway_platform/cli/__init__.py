"""The operator's commands. The SDK owns the console script `museway`; `commands()` is what its entry point finds here.

Nothing is imported before its command runs: `museway --help` shows twenty commands in the time of none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import cast

_COMMANDS = {
    "demo": (
        "museway_platform.cli.demo.command",
        "From nothing: every mode once, priced and proved, then all is stopped",
    ),
    "up": ("museway_platform.cli.up", "Worker, database and gateway on this machine, in the foreground"),
    "serve": ("museway_platform.cli.serve", "The gateway alone, by settings: production"),
    "worker": ("museway_platform.cli.worker", "One SGLang worker with the right flags for this machine"),
    "engine": ("museway_platform.cli.engine", "Install the engine's own environment and model"),
    "migrate": ("museway_platform.cli.migrate", "Bring the database's schema to its newest version"),
    "backup": ("museway_platform.cli.backup", "The database and the journals, consistent, into a folder"),
    "restore": ("museway_platform.cli.restore", "A backup into an empty database, drained again to the present"),
    "orgs": ("museway_platform.cli.orgs", "Organizations: create, list, show, set"),
    "projects": ("museway_platform.cli.projects", "Projects of an organization: create, list"),
    "keys": ("museway_platform.cli.keys", "API keys: create, list, rotate, revoke"),
    "limits": ("museway_platform.cli.limits", "Rate limits: list, set, remove"),
    "caps": ("museway_platform.cli.caps", "Spending caps: list, set, remove"),
    "plans": ("museway_platform.cli.plans", "Plans, the limits an organization starts from: create, list, show, set"),
    "prices": ("museway_platform.cli.prices", "Price book: list, show, set (a new version; old ones never move)"),
    "credits": ("museway_platform.cli.credits", "Credit: grant, list, adjust, history; unknown counts"),
    "usage": ("museway_platform.cli.usage", "What was used and what it cost: tables, plots, export"),
    "reconcile": (
        "museway_platform.cli.reconcile",
        "Prove that every token and nano-dollar adds up, or name what differs",
    ),
    "receipts": ("museway_platform.cli.receipts", "Verify a signed receipt, offline"),
    "openapi": ("museway_platform.cli.openapi", "Print the OpenAPI 3.1 document"),
    "bench": ("museway_platform.cli.bench", "A small load against a base URL: latency, tokens per second"),
}


class Lazy:
    """One sub-command (`museway.cli.command.Command`): its module's `main(argv) -> int`, imported when it runs."""

    __slots__ = ("help", "module")

    def __init__(self, module: str, help: str) -> None:  # noqa: A002 - the contract's name
        self.module, self.help = module, help

    def run(self, argv: Sequence[str]) -> int:
        main = cast(Callable[[Sequence[str]], int], importlib.import_module(self.module).main)
        return main(argv)


def commands() -> Mapping[str, Lazy]:
    """Sub-command → command, in the order in which `museway --help` lists them."""
    return {name: Lazy(module, text) for name, (module, text) in _COMMANDS.items()}
