"""A hold's life: `open` → `settled | released | recovered`, once (I4). Pure: no clock, no I/O, no balance.

Whether the money for a hold is there is the limiter's question; what may happen to a hold is answered here only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias, assert_never

from msgspec import Struct, structs

from museway_billing.money import NanoUsd


class HoldState(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    RECOVERED = "recovered"


class Hold(Struct, frozen=True, gc=False, kw_only=True):
    """`held` stays what it was when the hold ends; `used` of it was spent, the rest went back in the same step."""

    id: str
    organization: str
    held: NanoUsd
    state: HoldState = HoldState.OPEN
    used: NanoUsd = NanoUsd(0)

    @property
    def reserved(self) -> NanoUsd:
        """What the hold still keeps from others."""
        return self.held if self.state is HoldState.OPEN else NanoUsd(0)

    @property
    def returned(self) -> NanoUsd:
        return NanoUsd(self.held - self.used) if self.state is not HoldState.OPEN else NanoUsd(0)


class Extend(Struct, frozen=True, gc=False):
    """Add to an open hold."""

    amount: NanoUsd


class Settle(Struct, frozen=True, gc=False):
    """End it by what was used."""

    used: NanoUsd


class Release(Struct, frozen=True, gc=False):
    """End it as if it had never been: nothing was used."""


class Recover(Struct, frozen=True, gc=False):
    """End it for a process that died, by what its journal says was used."""

    used: NanoUsd


Command: TypeAlias = Extend | Settle | Release | Recover


class RefusalReason(StrEnum):
    ENDED = "ended"
    """The hold has ended, and not in the way that the command asks for."""
    OVER_HELD = "over_held"
    """More was used than is held: a bug of ours; nothing may be delivered that no hold covers (I3)."""
    NEGATIVE = "negative"


class Refusal(Struct, frozen=True, gc=False):
    """Why a command changed nothing. `hold` is as it was."""

    reason: RefusalReason
    hold: Hold
    command: Command


def transition(hold: Hold, command: Command) -> Hold | Refusal:
    """The hold after the command. Repeating the command that ended it gives the same hold again: success, not an error."""
    if hold.state is not HoldState.OPEN:
        ended_so = _apply(structs.replace(hold, state=HoldState.OPEN, used=NanoUsd(0)), command)
        return hold if ended_so == hold else Refusal(RefusalReason.ENDED, hold, command)
    return _apply(hold, command)


def _apply(hold: Hold, command: Command) -> Hold | Refusal:
    match command:
        case Extend(amount):
            if amount < 0:
                return Refusal(RefusalReason.NEGATIVE, hold, command)
            return structs.replace(hold, held=NanoUsd(hold.held + amount))
        case Settle(used):
            return _end(hold, command, HoldState.SETTLED, used)
        case Recover(used):
            return _end(hold, command, HoldState.RECOVERED, used)
        case Release():
            return _end(hold, command, HoldState.RELEASED, NanoUsd(0))
        case _:
            assert_never(command)


def _end(hold: Hold, command: Command, state: HoldState, used: NanoUsd) -> Hold | Refusal:
    if used < 0:
        return Refusal(RefusalReason.NEGATIVE, hold, command)
    if used > hold.held:
        return Refusal(RefusalReason.OVER_HELD, hold, command)
    return structs.replace(hold, state=state, used=used)
