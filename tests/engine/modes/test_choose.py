"""Which mode, and by which rule."""

from __future__ import annotations

from typing import Any

import pytest

from asking.ask import ask
from museway_engine.completion import Effort, Message, Mode, ResponseFormat, Sampling, Tool
from museway_engine.modes.choose import choose


@pytest.mark.parametrize("mode", [Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING])
@pytest.mark.parametrize("effort", [None, *Effort])
def test_a_named_mode_wins(mode: Mode, effort: Effort | None) -> None:
    choice = choose(ask("2 + 2", mode=mode, effort=effort))
    assert (choice.mode, choice.resolved, choice.rule) == (mode, mode, "named")


@pytest.mark.parametrize("effort", [e for e in Effort if e is not Effort.NONE])
def test_effort_asks_for_thinking(effort: Effort) -> None:
    assert choose(ask(effort=effort)).resolved is Mode.THINKING


def test_no_effort_and_nothing_named_is_instant() -> None:
    assert choose(ask(effort=Effort.NONE)).resolved is Mode.INSTANT
    assert choose(ask()).resolved is Mode.INSTANT


@pytest.mark.parametrize(
    ("words", "fields", "mode", "rule"),
    [
        ("Hi, how are you?", {}, Mode.INSTANT, "short"),
        ("What is 17 * 23?", {}, Mode.CONTEMPLATING, "maths"),
        ("A train has 5 cars with 12 seats each. How many seats are there?", {}, Mode.CONTEMPLATING, "maths"),
        ("Compare Rust and Go for a web server.", {}, Mode.CONTEMPLATING, "comparison"),
        ("Prove that there are infinitely many primes.", {}, Mode.THINKING, "many_steps"),
        ("Please debug this function: def f(): return g", {}, Mode.THINKING, "many_steps"),
        ("Translate to French: 3 + 4 is seven", {}, Mode.INSTANT, "translation"),
        ("Summarize this: Compare A and B", {}, Mode.INSTANT, "rewriting"),
        ("What is 17 * 23?", {"tools": (Tool(name="f"),)}, Mode.THINKING, "tools"),
        ("What is 17 * 23?", {"n": 2}, Mode.THINKING, "n"),
        ("Compare A and B", {"response_format": ResponseFormat(kind="json_object")}, Mode.INSTANT, "json"),
        ("Compare A and B", {"sampling": Sampling(regex="a|b")}, Mode.INSTANT, "json"),
        ("What is 17 * 23?", {"deadline_ms": 1000}, Mode.INSTANT, "deadline"),
        ("word " * 100, {}, Mode.INSTANT, "default"),
    ],
)
def test_the_rules_of_auto(words: str, fields: dict[str, Any], mode: Mode, rule: str) -> None:
    choice = choose(ask(words, mode=Mode.AUTO, **fields))
    assert (choice.mode, choice.resolved, choice.rule) == (Mode.AUTO, mode, rule)


def test_auto_looks_at_the_last_question_only() -> None:
    messages = (
        Message(role="user", content="What is 17 * 23?"),
        Message(role="assistant", content="391"),
        Message(role="user", content="Thanks!"),
    )
    assert choose(ask(mode=Mode.AUTO, messages=messages)).resolved is Mode.INSTANT
