"""How much is done: a little in every run of the suite, a lot where CHAOS is set (`make chaos`).

Everything random comes from one seed, CHAOS_SEED or a new one; each failure shows it, and the same seed draws the same
faults again (when they strike is the machine's affair).
"""

from __future__ import annotations

import os
import random
import secrets
from typing import TypeVar

T = TypeVar("T")

CHAOS = os.environ.get("CHAOS", "") not in {"", "0"}
SEED = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000_000))


def scaled(ci: T, chaos: T) -> T:
    """The first in the suite, the second under `make chaos`."""
    return chaos if CHAOS else ci


def drawn(name: str) -> random.Random:
    """The randomness of one test, told so that it can be had again."""
    print(f"again with: CHAOS_SEED={SEED}{' CHAOS=1' if CHAOS else ''}")
    return random.Random(f"{SEED} {name}")
