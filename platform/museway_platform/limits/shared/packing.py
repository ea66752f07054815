"""What one kind of request meets, as the script reads it, and what the script says of it, as callers are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from museway_platform.limits import refusals
from museway_platform.limits.bucket import Bucket
from museway_platform.limits.limiter import Admitted, LimitState, Refused
from museway_platform.limits.rules import Gate, Rules
from museway_platform.limits.spending import Account, CapCounter, Window
from museway_platform.limits.states import cap_state, credit_state, gate_state, rate_state

EXACT: Final = (1 << 53) - 1
"""Lua counts in doubles: a cap above it ($9,007,199) acts as one of this amount."""
AMOUNT_MAX: Final = 1 << 52
_MICRO: Final = 1000
_encode: Final = msgspec.msgpack.Encoder().encode


class Layout:
    """The limits of one organization, project and key in one mode, or in all of them (None).

    Buckets, gates and windows of this process are only views: before they are shown they are set to what Redis said.
    """

    __slots__ = ("account", "buckets", "caps", "gates", "outputs", "packed")

    def __init__(
        self, account: Account, rules: Sequence[Rules], scopes: tuple[str, str, str], mode: str | None
    ) -> None:
        self.account = account
        self.buckets = [
            b for rule in rules for (_, of), b in rule.buckets.items() if mode is None or of in (None, mode)
        ]
        self.gates = [g for rule in rules for of, g in rule.gates.items() if mode is None or of in (None, mode)]
        self.caps = [counter for rule in rules for counter in rule.caps.values()]
        self.outputs = [bucket for bucket in self.buckets if bucket.kind == 2]
        self.packed = _encode(
            (
                min(account.allowance, AMOUNT_MAX),
                [(bucket_name(b), b.kind, b.limit.capacity, b.limit.refill, b.limit.window_s) for b in self.buckets],
                [(gate_name(gate), gate.limit.capacity) for gate in self.gates],
                [(c.window.scope_id, c.window.cap.period, min(c.window.cap.amount_nano_usd, EXACT)) for c in self.caps],
                scopes,
            )
        )

    def admitted(self, hold_id: str, levels: Iterable[Sequence[int]], now_us: int) -> Admitted:
        wall = self._show(levels, (), now_us)
        tightest: list[Bucket | None] = [None, None, None]
        for bucket in self.buckets:
            other = tightest[bucket.kind]
            if other is None or bucket.level * other.unit < other.level * bucket.unit:
                tightest[bucket.kind] = bucket
        requests, inputs, outputs = [None if bucket is None else rate_state(bucket, wall) for bucket in tightest]
        return Admitted(hold_id, requests, inputs, outputs)

    def refused(
        self, said: Sequence[Any], organization: str, amount: int, asked: tuple[int, int, int], now_us: int
    ) -> Refused:
        """`said`: what the script answered, its reason first."""
        match said[0]:
            case "credit":
                show_money(self.account, said[1])
                return refusals.of_credit(self.account, organization, amount)
            case "caps":
                return refusals.of_caps([self._window(place) for place in said[1]], amount, now_us * _MICRO)
            case _:
                wall = self._show(said[1], said[2], now_us)
                if asked[0]:
                    return refusals.of_rates(self.buckets, self.gates, asked, wall, wall)
                return refusals.of_rates(self.outputs, (), asked, wall, wall)

    def states(self, said: Sequence[Any], organization: str, now_us: int) -> list[LimitState]:
        money, levels, gates, places = said
        wall = self._show(levels, gates, now_us)
        windows = [self._window(place) for place in places]
        states: list[LimitState] = []
        scopes = [b.scope_id for b in self.buckets] + [g.scope_id for g in self.gates] + [w.scope_id for w in windows]
        for scope_id in dict.fromkeys(scopes):
            states += [rate_state(bucket, wall) for bucket in self.buckets if bucket.scope_id == scope_id]
            states += [gate_state(gate) for gate in self.gates if gate.scope_id == scope_id]
            states += [cap_state(window) for window in windows if window.scope_id == scope_id]
        show_money(self.account, money)
        return [*states, credit_state(self.account, organization)]

    def _show(self, levels: Iterable[Sequence[int]], gates: Iterable[int], now_us: int) -> int:
        """Set the views of rates; the time in nanoseconds."""
        wall = now_us * _MICRO
        for bucket, (whole, rest) in zip(self.buckets, levels, strict=True):
            bucket.level = whole * bucket.unit + rest * _MICRO
            bucket.at = wall
        for gate, used in zip(self.gates, gates, strict=False):
            gate.used = used
        return wall

    def _window(self, place: Sequence[int]) -> Window:
        index, start, used, held = place
        counter: CapCounter = self.caps[index]
        of = counter.window
        window = Window(of.cap, of.scope, of.scope_id, start * _MICRO)
        window.used, window.held = used, held
        return window


def bucket_name(bucket: Bucket) -> str:
    return f"b:{bucket.scope_id}:{bucket.kind}:{bucket.limit.mode or ''}"


def gate_name(gate: Gate) -> str:
    return f"c:{gate.scope_id}:{gate.limit.mode or ''}"


def show_money(account: Account, said: Sequence[Sequence[Any]]) -> None:
    """`said`: left, held, settled, drained, each a text and what is to be added to it."""
    left, held, settled, drained = (int(text) + more for text, more in said)
    account.held = held
    account.undrained = settled - drained
    account.posted = left + held + account.undrained
