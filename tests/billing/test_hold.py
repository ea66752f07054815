"""The hold's life, against a model of ten lines, and every command in every state."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from museway_billing.holds import (
    Command,
    Extend,
    Hold,
    HoldState,
    Recover,
    Refusal,
    RefusalReason,
    Release,
    Settle,
    transition,
)
from museway_billing.money import NanoUsd

AMOUNTS = st.integers(-5, 100).map(NanoUsd)
COMMANDS = st.one_of(AMOUNTS.map(Extend), AMOUNTS.map(Settle), AMOUNTS.map(Recover), st.just(Release()))


class HoldMachine(RuleBasedStateMachine):
    """The model: what is reserved, and how the hold ended, if it has."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = Hold(id="hold_1", organization="org_a", held=NanoUsd(50))
        self.held = 50
        self.end: tuple[str, int] | None = None

    @rule(command=COMMANDS)
    def command(self, command: Command) -> None:
        after = transition(self.hold, command)
        match command:
            case Extend(amount):
                accepted = self.end is None and amount >= 0
                self.held += amount if accepted else 0
            case Settle(used) | Recover(used):
                ending = (type(command).__name__, used)
                accepted = self.end == ending or (self.end is None and 0 <= used <= self.held)
                self.end = ending if accepted else self.end
            case Release():
                accepted = self.end in (None, ("Release", 0))
                self.end = ("Release", 0) if accepted else self.end
        assert isinstance(after, Hold) == accepted
        if isinstance(after, Hold):
            self.hold = after
        else:
            assert after.hold == self.hold

    @invariant()
    def money_is_conserved(self) -> None:
        hold = self.hold
        assert hold.held == self.held
        if self.end is None:
            assert (hold.reserved, hold.used, hold.returned) == (self.held, 0, 0)
        else:
            assert hold.reserved == 0
            assert hold.used == self.end[1]
            assert hold.used + hold.returned == self.held


TestHold = HoldMachine.TestCase

_ENDS = {
    HoldState.SETTLED: Settle(NanoUsd(10)),
    HoldState.RELEASED: Release(),
    HoldState.RECOVERED: Recover(NanoUsd(10)),
}


@pytest.mark.parametrize("state", list(_ENDS))
@pytest.mark.parametrize(
    "command", [Extend(NanoUsd(1)), Extend(NanoUsd(0)), Settle(NanoUsd(10)), Release(), Recover(NanoUsd(10))]
)
def test_an_ended_hold_only_accepts_its_own_end_again(state: HoldState, command: Command) -> None:
    ended = transition(Hold(id="hold_1", organization="org_a", held=NanoUsd(50)), _ENDS[state])
    assert isinstance(ended, Hold) and ended.state is state
    again = transition(ended, command)
    if command == _ENDS[state]:
        assert again is ended
    else:
        assert again == Refusal(RefusalReason.ENDED, ended, command)


def test_no_more_is_settled_than_is_held() -> None:
    hold = Hold(id="hold_1", organization="org_a", held=NanoUsd(50))
    assert transition(hold, Settle(NanoUsd(51))) == Refusal(RefusalReason.OVER_HELD, hold, Settle(NanoUsd(51)))
