"""What a request can take, in closed form: what runs never passes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking.ask import ask
from museway_engine.completion import CalledTool, Completion, Contemplating, Effort, Message, Mode, Tool
from museway_engine.errors import ContextTooLong, InvalidForModel
from museway_engine.modes.bounds import prepare
from museway_engine.profiles.facts import Facts, Overhead, ThinkingIds
from museway_engine.profiles.profile import profiles

_OVERHEAD = Overhead(base=20, message=8, tools=100, tool=30, call=40)
_IDS = ThinkingIds(drop=0, open=(1, 2, 3), close_id=None, after_close=(), cut=(4, 5))


def facts(profile: str = "generic", context: int = 8192) -> Facts:
    return Facts(
        profile=profiles()[profile],
        context=context,
        overhead=_OVERHEAD,
        thinking=_IDS,
        user_tail=(7,),
        special=frozenset(),
    )


def test_instant_takes_prompt_and_answer() -> None:
    prepared = prepare(ask("x" * 100, max_tokens=50, n=3), facts(), None)
    assert prepared.prompt_bound == 20 + 8 + 100
    assert (prepared.worst.input, prepared.worst.output, prepared.worst.reasoning) == (128, 150, 0)
    assert prepared.first == prepared.worst
    assert prepared.max_tokens == 50


def test_the_exact_count_wins_over_the_bound() -> None:
    prepared = prepare(ask("x" * 100), facts(), 25)
    assert (prepared.prompt_bound, prepared.is_exact) == (25, True)


@pytest.mark.parametrize(
    ("maximum", "effort", "budget"),
    [
        (None, None, 2048),
        (None, Effort.LOW, 512),
        (1000, Effort.LOW, 512),
        (300, Effort.LOW, 268),
        (33, None, 1),
        (32, None, 0),
        (5, None, 0),
        (None, Effort.NONE, 0),
    ],
)
def test_a_budget_stays_inside_the_clients_maximum(maximum: int | None, effort: Effort | None, budget: int) -> None:
    prepared = prepare(ask(mode=Mode.THINKING, max_tokens=maximum, effort=effort), facts(), None)
    assert prepared.budget == budget
    assert prepared.worst.reasoning + prepared.worst.output == prepared.max_tokens
    if maximum is not None:
        assert prepared.max_tokens == maximum


@given(prompt=st.integers(1, 8000), maximum=st.integers(1, 8000) | st.none(), effort=st.sampled_from([None, *Effort]))
def test_an_exact_prompt_fits_the_context_or_is_refused(
    prompt: int, maximum: int | None, effort: Effort | None
) -> None:
    for mode in (Mode.INSTANT, Mode.THINKING):
        try:
            prepared = prepare(ask(mode=mode, max_tokens=maximum, effort=effort), facts(), prompt)
        except InvalidForModel:
            needed = maximum if maximum is not None else 1
            assert prompt + needed + len(_IDS.open + _IDS.cut) > 8192
            continue
        assert prompt + prepared.max_tokens <= 8192
        assert 0 <= prepared.budget < prepared.max_tokens or prepared.budget == 0


def test_a_prompt_beyond_the_context() -> None:
    with pytest.raises(ContextTooLong):
        prepare(ask(), facts(), 8192)
    with pytest.raises(InvalidForModel, match="9000"):
        prepare(ask(max_tokens=9000), facts(), None)


def test_contemplating_by_the_profile_and_by_the_caller() -> None:
    default = prepare(ask(mode=Mode.CONTEMPLATING, max_tokens=None), facts("smollm2-cpu"), 100)
    assert (default.agents, default.rounds, default.agent_max_tokens, default.max_tokens) == (4, 0, 64, 256)
    own = Contemplating(agents=2, rounds=3, agent_max_tokens=100)
    asked = prepare(ask(mode=Mode.CONTEMPLATING, contemplating=own), facts("smollm2-cpu"), 100)
    assert (asked.agents, asked.rounds, asked.agent_max_tokens) == (2, 3, 100)
    assert asked.worst.reasoning == 2 * 4 * 100
    assert asked.worst.output == 40
    assert asked.worst.cached_input >= 2 * 100 * 4
    assert asked.first.reasoning == 2 * 100


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"contemplating": Contemplating(agents=1)}, "contemplating.agents"),
        ({"contemplating": Contemplating(agents=17)}, "contemplating.agents"),
        ({"contemplating": Contemplating(rounds=4)}, "contemplating.rounds"),
        ({"contemplating": Contemplating(agent_max_tokens=0)}, "contemplating.agent_max_tokens"),
        ({"contemplating": Contemplating(agent_max_tokens=9000)}, "contemplating.agent_max_tokens"),
    ],
)
def test_what_contemplating_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidForModel) as caught:
        prepare(ask(mode=Mode.CONTEMPLATING, **fields), facts(), None)
    assert caught.value.param == param


@pytest.mark.parametrize("mode", [Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING])
def test_least_likely_and_worst_are_in_order(mode: Mode) -> None:
    prepared = prepare(ask(mode=mode), facts(), 100)
    for name in ("input", "cached_input", "reasoning", "output"):
        least, likely, worst = (getattr(b, name) for b in (prepared.least, prepared.likely, prepared.worst))
        assert least <= likely <= worst, name


_TEXTS = st.text(max_size=60)


@given(texts=st.lists(_TEXTS, min_size=1, max_size=5), arguments=_TEXTS)
def test_the_bound_holds_for_any_text_of_a_byte_tokenizer(texts: list[str], arguments: str) -> None:
    """A tokenizer can't make more tokens than bytes; JSON may be written anew by the template."""
    messages = [Message(role="user", content=text) for text in texts]
    messages.append(Message(role="assistant", tool_calls=(CalledTool("c", "f", arguments),)))
    completion = Completion(request_id="r", model="m", messages=tuple(messages), tools=(Tool(name="f"),))
    rendered = sum(len(text.encode()) for text in texts) + len(arguments.encode())
    assert facts().prompt_bound(completion) >= rendered


def test_the_bound_counts_json_as_a_template_writes_it() -> None:
    call = CalledTool("c", "f", '{"n":[1e15,1e15]}')
    completion = Completion(request_id="r", model="m", messages=(Message(role="assistant", tool_calls=(call,)),))
    assert facts().prompt_bound(completion) >= len('{"n": [1000000000000000.0, 1000000000000000.0]}')
