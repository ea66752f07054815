"""What one model family can do, and how each mode is made on it. Data: one TOML file per family beside this module."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import msgspec
from msgspec import Struct, field

from museway_engine.completion import Effort

GENERIC = "generic"


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which workers the profile is for: any of `names` occurs in what the worker says of its model (any case), and it
    runs on `device` where one is given. No names: only by setting."""

    names: tuple[str, ...] = ()
    device: str | None = None


class Maxima(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens. `default_tokens` is the answer's maximum where the client gave none; at least `answer_floor` of a maximum
    are kept for the visible answer."""

    default_tokens: int = 1024
    answer_floor: int = 32


class ThinkingRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a chain is opened and closed. `is_native`: the model was trained to think between its own tags.

    The chain starts after `open` in the assistant's turn and ends where the model writes `close`; then `after_close`
    follows, or `cut` where the budget ended it. `kwargs` are the template's own switches for a thinking rendering.
    Budgets are in tokens, by effort.
    """

    is_native: bool = False
    open: str = "Let me reason step by step.\n"
    close: str = "\nFinal answer:"
    after_close: str = ""
    cut: str = "\n\nFinal answer:"
    kwargs: dict[str, bool | str] = {}
    budgets: dict[Effort, int] = field(
        default_factory=lambda: {
            Effort.MINIMAL: 128,
            Effort.LOW: 512,
            Effort.MEDIUM: 2048,
            Effort.HIGH: 8192,
            Effort.XHIGH: 16_384,
            Effort.MAX: 32_768,
        }
    )


class ContemplatingRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults of the mode. Tokens; `lead` is the probability at which the leading answer stops the agents;
    `leader_tokens`: from so many uncached prompt tokens on, one agent goes first so that the rest find its prefix."""

    agents: int = 8
    rounds: int = 0
    agent_tokens: int = 4096
    draft_tokens: int = 512
    winners: int = 3
    lead: float = 0.93
    temperature: float = 0.8
    leader_tokens: int = 256


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One family. `kwargs` switch the template to the instant rendering."""

    name: str
    match: Match = Match()
    kwargs: dict[str, bool | str] = {}
    maxima: Maxima = Maxima()
    thinking: ThinkingRules = field(default_factory=ThinkingRules)
    contemplating: ContemplatingRules = ContemplatingRules()


@cache
def profiles() -> dict[str, Profile]:
    """All profiles that come with the package, by name. The more particular (with a device) first."""
    found = [
        msgspec.convert(tomllib.loads(file.read_text("utf-8")), Profile)
        for file in resources.files("museway_engine.profiles").iterdir()
        if file.name.endswith(".toml")
    ]
    found.sort(key=lambda p: (p.match.device is None, p.name))
    return {p.name: p for p in found}


def pick_profile(told: str, device: str | None) -> Profile:
    """The profile for what a worker tells of itself (paths, names, a rendered prompt); GENERIC where none matches."""
    text = told.lower()
    for profile in profiles().values():
        names = profile.match.names
        if any(name.lower() in text for name in names) and profile.match.device in (None, device):
            return profile
    return profiles()[GENERIC]
