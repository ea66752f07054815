"""The id of one engine call, as the worker knows it (DESIGN §3).

`req_<ulid>.` + phase letter + round (1 digit) + agent (2) + choice (2) + segment (2) + attempt (1). Fixed width, so none
is the prefix of another: SGLang's `/abort_request` matches by prefix.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What an engine call is for; the first letter of its place in a rid."""

    ANSWER = "answer"
    THINK = "think"
    REFINE = "refine"
    EQUIV = "equiv"
    SYNTHESIS = "synthesis"
    CONTINUATION = "continuation"
    ROUTING = "routing"


LETTER: dict[Phase, str] = {
    Phase.ANSWER: "a",
    Phase.THINK: "t",
    Phase.REFINE: "r",
    Phase.EQUIV: "e",
    Phase.SYNTHESIS: "s",
    Phase.CONTINUATION: "c",
    Phase.ROUTING: "o",
}


def make_rid(
    request_id: str,
    phase: Phase,
    *,
    round_: int = 0,
    agent: int = 0,
    choice: int = 0,
    segment: int = 0,
    attempt: int = 0,
) -> str:
    """The rid of one call. Asserts that each part fits its width; `agent` is 0 where the mode has no agents."""
    assert 0 <= round_ < 10 and 0 <= agent < 100 and 0 <= choice < 100 and 0 <= segment < 100 and 0 <= attempt < 10
    return f"{request_id}.{LETTER[phase]}{round_}{agent:02}{choice:02}{segment:02}{attempt}"


def next_attempt(rid: str) -> str:
    """The rid of the same call's next attempt."""
    return f"{rid[:-1]}{int(rid[-1]) + 1}"
