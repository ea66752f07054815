"""Which mode `auto` takes, by rules alone: what a request shows of itself, and it says by which rule.

Rules look at the last user message and at what the request asks for; never at length alone (a long prompt is not a hard
one). They never claim to know how hard a question is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from museway_engine.completion import Completion, Mode

_HURRY_MS: Final = 3_000
_SHORT: Final = 160

_TRANSLATE: Final = re.compile(r"\b(translate|translation|übersetze|traduis|traduce)\b", re.IGNORECASE)
_REWRITE: Final = re.compile(r"\b(summari[sz]e|rephrase|rewrite|proofread|fix the (grammar|spelling))\b", re.IGNORECASE)
_COMPARE: Final = re.compile(
    r"\b(compare|pros and cons|trade-?offs?|versus|vs\.?|which is better|evaluate|weigh|decide between)\b",
    re.IGNORECASE,
)
_MATHS: Final = re.compile(
    r"\b(calculate|compute|solve|how many|how much|equation|integral|derivative|probability|prime|percent|sum of|"
    r"product of|square root|average)\b",
    re.IGNORECASE,
)
_ARITHMETIC: Final = re.compile(r"\d\s*(?:[+*/×÷^]|-\s)\s*\d")
_STEPS: Final = re.compile(
    r"\b(step by step|prove|proof|derive|explain why|debug|algorithm|plan|design|puzzle|riddle|logic|strategy|"
    r"how would you|what would happen)\b",
    re.IGNORECASE,
)


class Rule(NamedTuple):
    mode: Mode
    name: str


def by_rules(completion: Completion) -> Rule:
    """The mode and the name of the rule that took it. Pure."""
    rule = _by_text(completion)
    if rule.mode is Mode.CONTEMPLATING and (completion.tools or completion.n > 1):
        return Rule(Mode.THINKING, "tools" if completion.tools else "n")
    return rule


def _by_text(completion: Completion) -> Rule:
    text = next((m.content or "" for m in reversed(completion.messages) if m.role == "user"), "")
    if completion.deadline_ms is not None and completion.deadline_ms < _HURRY_MS:
        return Rule(Mode.INSTANT, "deadline")
    if completion.response_format.kind != "text" or completion.sampling.regex or completion.sampling.ebnf:
        return Rule(Mode.INSTANT, "json")
    if _TRANSLATE.search(text):
        return Rule(Mode.INSTANT, "translation")
    if _REWRITE.search(text):
        return Rule(Mode.INSTANT, "rewriting")
    if completion.messages and completion.messages[-1].role == "tool":
        return Rule(Mode.INSTANT, "tool_result")
    if (_MATHS.search(text) and len(re.findall(r"\d+", text)) >= 2) or _ARITHMETIC.search(text):
        return Rule(Mode.CONTEMPLATING, "maths")
    if _COMPARE.search(text):
        return Rule(Mode.CONTEMPLATING, "comparison")
    if _STEPS.search(text) or _MATHS.search(text):
        return Rule(Mode.THINKING, "many_steps")
    return Rule(Mode.INSTANT, "short" if len(text) < _SHORT else "default")
