"""Calls are aborted by rid, and a worker matches rids by prefix: none may be the beginning of another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from museway_engine.rid import LETTER, Phase, make_rid, next_attempt

_requests = st.sampled_from([f"req_{n:026}" for n in (1, 2, 10, 11)])
_parts = st.fixed_dictionaries(
    {
        "round_": st.integers(0, 9),
        "agent": st.integers(0, 99),
        "choice": st.integers(0, 99),
        "segment": st.integers(0, 99),
        "attempt": st.integers(0, 9),
    }
)
_calls = st.tuples(_requests, st.sampled_from(Phase), _parts)


@given(one=_calls, other=_calls)
def test_no_rid_is_the_beginning_of_another(
    one: tuple[str, Phase, dict[str, int]], other: tuple[str, Phase, dict[str, int]]
) -> None:
    first, second = (make_rid(request, phase, **parts) for request, phase, parts in (one, other))
    assert (first == second) == (one == other)
    assert first == second or not second.startswith(first)


def test_a_next_attempt_is_another_call_of_the_same_place() -> None:
    rid = make_rid("req_x", Phase.THINK, round_=1, agent=2, choice=3, segment=4)
    assert rid == "req_x.t10203040"
    assert next_attempt(rid) == make_rid("req_x", Phase.THINK, round_=1, agent=2, choice=3, segment=4, attempt=1)


def test_every_phase_has_its_own_letter() -> None:
    assert set(LETTER) == set(Phase)
    assert len(set(LETTER.values())) == len(Phase)
