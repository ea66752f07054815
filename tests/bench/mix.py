"""The acceptance load's requests: every mode and form, drawn from a seed, some to be left in the middle."""

import random
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

_SYSTEMS = (
    "You answer briefly.",
    "You are the help of a shop for garden tools. Be kind, name prices, never promise a delivery date. " * 6,
    "You translate what you are given into plain words and keep every number as it stands. " * 20,
)
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "minLength": 3}},
            "required": ["city"],
        },
    },
}
_SCHEMA = {
    "name": "answer",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}, "why": {"type": "string", "minLength": 8}},
        "required": ["yes", "why"],
        "additionalProperties": False,
    },
}
# (form, weight): weights sum to 100.
_FORMS = (
    ("stream", 34),
    ("stream without usage", 12),
    ("json", 18),
    ("two choices", 5),
    ("tools", 6),
    ("schema", 6),
    ("thinking", 9),
    ("contemplating", 6),
    ("auto", 4),
)


class Planned(Struct, frozen=True, kw_only=True):
    """One request to make. `leaves_after` is the number of events after which the client hangs up; None stays."""

    form: str
    body: dict[str, Any]
    leaves_after: int | None = None

    @property
    def streams(self) -> bool:
        return bool(self.body["stream"])


def planned(count: int, hangups: int, *, seed: int, model: str) -> Iterator[Planned]:
    """`count` requests of which `hangups`, all streams, are left; the same seed gives the same requests."""
    rng = random.Random(seed)
    forms = rng.choices([form for form, _ in _FORMS], [weight for _, weight in _FORMS], k=count)
    streams = [number for number, form in enumerate(forms) if form != "json"]
    left = set(rng.sample(streams, min(hangups, len(streams))))
    for number, form in enumerate(forms):
        leaves_after = rng.choice((0, 1, 2, 3, 5, 8, 13, 21)) if number in left else None
        yield Planned(form=form, body=_body(form, number, rng, model), leaves_after=leaves_after)


def _body(form: str, number: int, rng: random.Random, model: str) -> dict[str, Any]:
    question = (
        f"Question {number}: how many {rng.choice(('stones', 'birds', 'rivers'))} are {rng.randint(2, 999)} of them?"
    )
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "system", "content": rng.choice(_SYSTEMS)}, {"role": "user", "content": question}],
        "max_tokens": rng.choice((8, 16, 32, 64)),
        "stream": form != "json",
        "mode": "instant",
    }
    if body["stream"] and form != "stream without usage":
        body["stream_options"] = {"include_usage": True}
    match form:
        case "two choices":
            body["n"] = 2
        case "tools":
            body |= {"tools": [_TOOL], "tool_choice": rng.choice(("auto", "required")), "max_tokens": 96}
        case "schema":
            body |= {"response_format": {"type": "json_schema", "json_schema": _SCHEMA}, "max_tokens": 64}
        case "thinking" | "auto":
            body |= {"mode": form, "max_tokens": 160}
        case "contemplating":
            body |= {"mode": form, "max_tokens": 160}
            body["contemplating"] = {
                "agents": rng.choice((2, 3, 4)),
                "rounds": rng.choice((0, 1)),
                "agent_max_tokens": 64,
            }
        case _:
            pass
    return body
