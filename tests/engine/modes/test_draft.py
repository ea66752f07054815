"""What an agent leaves to others holds nothing that could structure a prompt."""

from __future__ import annotations

from museway_engine.allowance import CallSpec
from museway_engine.modes.contemplating.draft import Draft, conclusion
from museway_engine.profiles.facts import Facts, Overhead, ThinkingIds
from museway_engine.profiles.profile import profiles
from museway_engine.rid import Phase
from museway_engine.worker.generate import Piece

_SPEC = CallSpec(rid="r", phase=Phase.THINK, agent=3, prompt_bound=1, max_tokens=9, internal=True)
_START, _END, _CLOSE = 1, 2, 9


def _facts(profile: str) -> Facts:
    return Facts(
        profile=profiles()[profile],
        context=8192,
        overhead=Overhead(base=1, message=1, tools=1, tool=1, call=1),
        thinking=ThinkingIds(drop=0, open=(), close_id=_CLOSE, after_close=(), cut=()),
        user_tail=(_END,),
        special=frozenset({_START, _END}),
    )


def _pieces(*pairs: tuple[str, int]) -> list[Piece]:
    return [Piece(text, (token,), n) for n, (text, token) in enumerate(pairs, 1)]


def _conclude(pieces: list[Piece], profile: str = "generic", *, is_cut: bool = False) -> Draft | None:
    return conclusion(_SPEC, pieces, _facts(profile), tokens=len(pieces), is_cut=is_cut)


def test_tokens_that_frame_a_prompt_are_left_out() -> None:
    draft = _conclude(_pieces(("So", 20), ("", _START), (" 4", 21), ("", _END)))
    assert draft is not None
    assert draft.ids == (20, 21)
    assert (draft.text, draft.agent, draft.rid, draft.tokens) == ("So 4", 3, "r", 4)


def test_only_the_end_of_a_long_draft_is_kept() -> None:
    size = profiles()["generic"].contemplating.draft_tokens
    draft = _conclude(_pieces(*[("x", 100 + n) for n in range(size + 50)]))
    assert draft is not None
    assert draft.ids == tuple(100 + n for n in range(50, size + 50))
    assert len(draft.text) == size + 50  # the vote reads all of it


def test_a_native_models_chain_is_not_passed_on() -> None:
    chain = [("I", 30), (" think", 31), ("</think>", _CLOSE), ("\n\n", 32), ("FINAL: 4", 33)]
    draft = _conclude(_pieces(*chain), "qwen3")
    assert draft is not None
    assert (draft.text, draft.ids) == ("FINAL: 4", (32, 33))


def test_a_close_tag_of_several_tokens() -> None:
    chain = [("I</", 30), ("think", 31), (">", 32), (" yes", 33)]
    draft = _conclude(_pieces(*chain), "qwen3")
    assert draft is not None
    assert (draft.text, draft.ids) == ("yes", (33,))


def test_a_chain_that_never_closed_concludes_nothing_unless_cut() -> None:
    chain = _pieces(("I", 30), (" think", 31))
    assert _conclude(chain, "qwen3") is None
    cut = _conclude(chain, "qwen3", is_cut=True)
    assert cut is not None
    assert cut.text == "I think"


def test_nothing_is_no_draft() -> None:
    assert _conclude([]) is None
    assert _conclude(_pieces(("", _END))) is None
    assert _conclude(_pieces(("  ", 40))) is None
