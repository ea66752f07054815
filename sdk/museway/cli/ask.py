"""`museway ask`: one question, answered as it comes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the client takes a while to import, and --help does not need it
    from museway.options import Options
    from museway.reply import Reply
    from museway.streams import Stream

FAILED: Final = 1
MODES: Final = ("instant", "thinking", "contemplating", "auto")


class Ask:
    """The sub-command."""

    help = "Ask the model one question"

    def run(self, argv: Sequence[str]) -> int:
        """0, or 1 with one line on standard error where there was no whole answer."""
        arguments = _parser().parse_args(argv)
        prompt = " ".join(arguments.prompt) if arguments.prompt else sys.stdin.read()
        if not prompt.strip():
            print("museway ask: there is nothing to ask.", file=sys.stderr)
            return 2
        from museway.client import Museway
        from museway.errors import MusewayError

        try:
            with Museway(base_url=arguments.base_url) as client, client.stream(prompt, **_options(arguments)) as stream:
                _print(stream, show_reasoning=arguments.reasoning)
                if arguments.cost:
                    print(_bill(stream.reply), file=sys.stderr)
        except MusewayError as error:
            named = f" ({error.request_id})" if error.request_id else ""
            print(f"museway ask: {error.message}{named}", file=sys.stderr)
            return FAILED
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="museway ask",
        description="Ask the model one question; without one, standard input is the question.",
        epilog="The key is MUSEWAY_API_KEY, the server MUSEWAY_BASE_URL.",
    )
    parser.add_argument("prompt", nargs="*", metavar="QUESTION")
    parser.add_argument("-m", "--mode", choices=MODES, help="how to answer")
    parser.add_argument("--model", help="a model or an alias of it")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="bound of reasoning and answer together")
    parser.add_argument("-r", "--reasoning", action="store_true", help="show the visible chain too, on standard error")
    parser.add_argument("-c", "--cost", action="store_true", help="say tokens and cost at the end, on standard error")
    parser.add_argument("--base-url", metavar="URL", help="the server, over MUSEWAY_BASE_URL")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    options: Options = {}
    if arguments.mode is not None:
        options["mode"] = arguments.mode
    if arguments.model is not None:
        options["model"] = arguments.model
    if arguments.max_tokens is not None:
        options["max_tokens"] = arguments.max_tokens
    return options


def _print(stream: Stream, *, show_reasoning: bool) -> None:
    from museway.events import OutputDelta, ReasoningDelta

    for event in stream:
        match event:
            case OutputDelta():
                print(event.text, end="", flush=True)
            case ReasoningDelta() if show_reasoning:
                print(event.text, end="", flush=True, file=sys.stderr)
            case _:
                pass
    print()


def _bill(reply: Reply) -> str:
    if reply.usage is None or reply.cost is None:
        return "The count is still being reconciled."
    usage = reply.usage
    return f"{usage.prompt_tokens} + {usage.completion_tokens} tokens in mode {reply.mode}: {reply.cost}"
