"""The command line of the fake worker as one value."""

import argparse
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, convert

CacheDetails = Literal["always", "positive", "null"]


class Options(Struct, frozen=True, kw_only=True):
    """How this worker behaves where no script says otherwise. Times in milliseconds, sizes in tokens."""

    host: str = "127.0.0.1"
    port: int = 0
    model: str = "muse"
    context: int = 8192
    delay_ms: float = 0.0
    """Pause before every token; 0 makes tokens as fast as the loop turns."""
    prefill_us: float = 0.0
    """Pause per uncached prompt token, in microseconds: makes the prefix cache visible in time."""
    max_running: int = 256
    max_queued: int = 4096
    cache_tokens: int = 1_000_000
    cache_details: CacheDetails = "always"
    cumulative: bool = False
    """`/generate` streams the whole text so far on every event, as SGLang does without its incremental flag."""
    spaces: bool = False
    """JSON with spaces after `,` and `:` and non-ASCII escaped."""
    router: bool = False
    """Answer as SGLang's router does: no `/abort_request`, `/v1/loads`, `/metrics`; a closed connection aborts."""
    reasoning_parser: bool = True
    """Split a thinking answer into `reasoning_content` and `content`."""
    abort_steps: int = 1
    """Decode steps still made after an abort."""
    disconnect_lag_ms: float = 0.0
    """How long a closed connection goes unnoticed."""
    loading_ms: float = 0.0
    """After the start, `/health` answers 503 for so long."""
    exit_with_stdin: bool = False
    """End when standard input closes, so that no worker outlives the process that started it."""


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with a usage message where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m doubles.fake_worker", description=__doc__, argument_default=argparse.SUPPRESS
    )
    for name in Options.__struct_fields__:
        default: bool | int | float | str = getattr(Options(), name)
        flag = "--" + name.replace("_", "-")
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(flag, metavar=str(default))
    return convert(vars(parser.parse_args(arguments)), Options, strict=False)
