"""What the demo asks. Small maxima: the demo's model runs on a CPU, at some ten tokens a second."""

from __future__ import annotations

from msgspec import Struct

from museway_engine.completion import Mode


class Question(Struct, frozen=True, kw_only=True):
    """`max_tokens` bounds reasoning and visible answer together (in contemplating the synthesis)."""

    mode: Mode
    text: str
    max_tokens: int
    agents: int | None = None
    agent_max_tokens: int | None = None


EVERY_MODE = (
    Question(mode=Mode.INSTANT, text="What is the capital of France?", max_tokens=48),
    Question(
        mode=Mode.THINKING,
        text="Which is larger, the Sun or the Moon, and why?",
        max_tokens=112,
    ),
    Question(
        mode=Mode.CONTEMPLATING,
        text="Which ocean lies between Europe and America?",
        max_tokens=64,
        agents=4,
        agent_max_tokens=48,
    ),
    Question(mode=Mode.AUTO, text="Translate to French: Good morning, how are you?", max_tokens=48),
)

_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown")
_GOODS = ("paper", "rope", "lamps", "nails", "cups")
_SHELVES = 110


def long_question() -> Question:
    """More than 1,000 tokens of prompt (some 1,500 with the demo's model), the same each time."""
    shelves = " ".join(
        f"Shelf {n} holds {7 + n * 13 % 90} boxes of {_COLOURS[n % 7]} {_GOODS[n % 5]}." for n in range(1, _SHELVES + 1)
    )
    return Question(mode=Mode.INSTANT, text=f"{shelves}\n\nWhat does shelf 3 hold?", max_tokens=24)
