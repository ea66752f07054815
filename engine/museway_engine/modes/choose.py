"""Which mode a request gets: named by the caller (or the project's default) > effort > instant. Pure."""

from __future__ import annotations

from msgspec import Struct

from museway_engine.completion import Completion, Effort, Mode
from museway_engine.modes.auto import by_rules


class Choice(Struct, frozen=True):
    """`mode` is what was asked for, `resolved` what runs; `rule` says why."""

    mode: Mode
    resolved: Mode
    rule: str


def choose(completion: Completion) -> Choice:
    """`completion.mode` already carries what a model alias or a project's default names."""
    match completion.mode:
        case Mode.AUTO:
            rule = by_rules(completion)
            return Choice(Mode.AUTO, rule.mode, rule.name)
        case Mode.INSTANT | Mode.THINKING | Mode.CONTEMPLATING as named:
            return Choice(named, named, "named")
        case None:
            pass
    if completion.effort in (None, Effort.NONE):
        return Choice(Mode.INSTANT, Mode.INSTANT, "default" if completion.effort is None else "effort")
    return Choice(Mode.THINKING, Mode.THINKING, "effort")
