"""The house rules hold, and each of them bites."""

from __future__ import annotations

import pytest

from tidy.rules import RULES, Rule, violations
from tidy.sources import Source, python

_BY_NAME = [pytest.param(rule, id=rule.name) for rule in RULES]
_BAD = [pytest.param(rule, text, id=f"{rule.name}-{n}") for rule in RULES for n, text in enumerate(rule.bad)]
_GOOD = [pytest.param(rule, text, id=f"{rule.name}-{n}") for rule in RULES for n, text in enumerate(rule.good)]


@pytest.mark.parametrize("rule", _BY_NAME)
def test_the_repository_keeps(rule: Rule) -> None:
    sources = [source for source in python() if rule.applies(source) and not source.adopted]
    assert sources, f"the rule {rule.name} applies to no file"
    broken = [line for source in sources for line in violations(rule, source)]
    assert not broken, f"{rule.why}:\n" + "\n".join(broken)


@pytest.mark.parametrize(("rule", "text"), _BAD)
def test_a_rule_bites(rule: Rule, text: str) -> None:
    assert violations(rule, Source(name="x.py", text=text))


@pytest.mark.parametrize(("rule", "text"), _GOOD)
def test_a_rule_lets_the_rest_pass(rule: Rule, text: str) -> None:
    assert not violations(rule, Source(name="x.py", text=text))


@pytest.mark.parametrize("rule", _BY_NAME)
def test_an_excuse_names_the_rule_and_a_reason(rule: Rule) -> None:
    text = rule.bad[-1]
    excuse = f"# tidy: allow {rule.name}: stated in the test of the rule"
    lines = [line for line in text.splitlines() for line in (f"{' ' * (len(line) - len(line.lstrip()))}{excuse}", line)]
    assert not violations(rule, Source(name="x.py", text="\n".join(lines)))
    bare = [line.replace(": stated in the test of the rule", "") for line in lines]
    assert violations(rule, Source(name="x.py", text="\n".join(bare)))
