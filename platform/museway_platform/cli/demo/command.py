"""`museway demo`: set up, ask, prove, stop."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import museway
from museway_engine.runtime.launch import free_port
from museway_platform.cli import stack, up
from museway_platform.cli.demo.ask import Asked, ask
from museway_platform.cli.demo.proof import prove
from museway_platform.cli.demo.questions import EVERY_MODE, long_question
from museway_platform.cli.demo.screen import Screen
from museway_platform.cli.money import dollars
from museway_platform.cli.progress import Steps
from museway_platform.cli.prompt import Failure, Parser, answer
from museway_platform.cli.reconcile import JOURNALS
from museway_platform.database.embedded import remove
from museway_platform.settings import Settings

_ABOUT = """\
Everything on this machine, from nothing: the engine's environment and a small model (once), PostgreSQL, one SGLang
worker and the gateway, in a data directory of its own that is removed at the end. Asks one question in every mode through
the SDK, shows what each answer cost, and proves that it all adds up.
"""


_WAYS_OUT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str]) -> int:
    parser = Parser("demo", _ABOUT)
    parser.add_argument("--keep", action="store_true", help="leave everything up afterwards, until ^C")
    return answer(parser, argv, _run)


def _run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    settings, steps, screen = Settings.load(), Steps(), Screen()
    screen.heading("Setting up")
    installation = up.needed(settings, steps)
    folder = Path(tempfile.mkdtemp(prefix="museway-demo-"))
    try:
        # Never the default port: the server shares its port with whoever starts on it at the same moment (SO_REUSEPORT),
        # and two demos would answer each other's questions.
        port = free_port(settings.host)
        plan = up.plan(settings.beside(data_dir=folder, port=port), installation)
        asyncio.run(_demo(plan, steps, screen, keep=args.keep))
    finally:
        steps.abandon()
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAYS_OUT)  # one more signal would leave the folder behind
        remove(folder)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAYS_OUT)
    screen.say(f"\nEverything is stopped. {time.monotonic() - began:.0f} s in all.")
    return 0


async def _demo(plan: stack.Plan, steps: Steps, screen: Screen, *, keep: bool) -> None:
    async with stack.running(plan, steps) as running:
        client = museway.AsyncMuseway(api_key=running.tenant.secret, base_url=running.base_url)
        try:
            async with client:
                await _ask_all(client, screen)
        except museway.MusewayError as error:
            raise Failure(f"the API refused: {error}") from error
        screen.heading("Proving it")
        await prove(running.database_url, plan.data_dir / JOURNALS, screen)
        if keep:
            screen.say(f"\nStill up: {running.base_url}, key {running.tenant.secret}. ^C stops it.")
            await running.until_stopped()


async def _ask_all(client: museway.AsyncMuseway, screen: Screen) -> None:
    screen.heading("One question in every mode")
    rows: list[Asked] = []
    for question in EVERY_MODE:
        with screen.answering(question) as shown:
            rows.append(await ask(client, question, shown))
    screen.say("")
    screen.asked(rows)

    screen.heading("The same long question twice: the second finds its prompt in the cache")
    pair: list[Asked] = []
    for _ in range(2):
        with screen.answering(long_question()) as shown:
            pair.append(await ask(client, long_question(), shown))
    screen.say("")
    screen.asked(pair)
    first, second = pair
    if second.cached_input == 0:
        raise Failure("the second answer found nothing in the cache")
    screen.say(
        f"\n{second.cached_input:,} of {second.input + second.cached_input:,} input tokens came from the cache: "
        f"saved {dollars(first.cost_nano_usd - second.cost_nano_usd)} and "
        f"{first.first_token_s - second.first_token_s:.2f} s to the first token"
    )
