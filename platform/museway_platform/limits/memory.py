"""The limiter of one gateway process. Every decision is made without suspending, so it is atomic in one event loop.

An admission has two phases: look at every limit that applies, then debit all, or none where one has no room. Money is
looked at first: who cannot pay hears that (402) rather than to wait (429) for a request that would be refused all the same.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from museway_platform.limits import refusals
from museway_platform.limits.bucket import Bucket
from museway_platform.limits.fed import Flow, Spent
from museway_platform.limits.limiter import (
    Admitted,
    Ask,
    Balance,
    Holder,
    HoldFault,
    LimitState,
    Refused,
    Subject,
    Used,
)
from museway_platform.limits.policy import Period, Policy
from museway_platform.limits.rules import Rules, Track
from museway_platform.limits.spending import Account, Window
from museway_platform.limits.states import cap_state, credit_state, gate_state, heaviest, rate_state

ENDED_REMEMBERED = 65_536
TRACKS_MAX = 200_000


class _Hold:
    __slots__ = ("admitted", "amount", "input", "output", "subject", "track", "windows")

    def __init__(self, track: Track, ask: Ask, windows: tuple[Window, ...], admitted: int) -> None:
        self.track = track
        self.subject = ask.subject
        self.amount = ask.amount
        self.input = ask.input_tokens
        self.output = ask.output_tokens
        self.windows = windows
        self.admitted = admitted


class MemoryLimiter:
    """`Limiter` and `FedLimiter` in the memory of one process.

    An organization that it was not told of has no credit. Clocks are in nanoseconds: monotonic for rates, the wall's for
    the periods of caps and for what callers are told.
    """

    def __init__(
        self, monotonic_ns: Callable[[], int] = time.monotonic_ns, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._accounts: dict[str, Account] = {}
        self._rules: dict[str, Rules] = {}
        self._tracks: dict[tuple[str, str], Track] = {}
        self._holds: dict[str, _Hold] = {}
        self._ended: OrderedDict[str, None] = (
            OrderedDict()
        )  # a dict finds its oldest entry by walking over all removed ones

    @property
    def holds_open(self) -> int:
        return len(self._holds)

    # -- what the database says ---------------------------------------------------------------------------------------

    def knows(self, organization: str) -> bool:
        return organization in self._accounts

    def sequence(self, organization: str) -> int:
        return self._accounts[organization].sequence

    async def open_account(self, organization: str, *, posted: int, sequence: int) -> None:
        if organization not in self._accounts:
            self._accounts[organization] = Account(posted=posted, sequence=sequence)

    def set_allowance(self, organization: str, amount: int) -> None:
        self._accounts[organization].allowance = amount

    async def configure(
        self, policy: Policy, spent: Mapping[Period, Spent] | None = None, *, organization: str | None = None
    ) -> None:
        rules = self._rules.get(policy.scope_id)
        if rules is None:
            rules = self._rules[policy.scope_id] = Rules(policy.scope, policy.scope_id)
        for counter in rules.adopt(policy, self._monotonic_ns(), self._wall_ns()):
            window = counter.window
            before = (spent or {}).get(window.cap.period)
            if before is not None and before.start == window.start:
                settled = 0 if organization is None else (await self.flow(organization)).settled
                window.used = before.amount + settled - before.drained_before
            self._adopt_holds(window)
        self._tracks.clear()

    def _adopt_holds(self, window: Window) -> None:
        for hold in self._holds.values():
            subject = hold.subject
            if (
                window.scope_id in (subject.organization, subject.project, subject.key)
                and hold.admitted >= window.start
            ):
                hold.windows += (window,)
                window.held += hold.amount

    def told(self) -> None:
        """Of no matter here: an account that is not open is one that does not exist."""

    async def flow(self, organization: str) -> Flow:
        account = self._accounts.get(organization) or Account()
        return Flow(settled=account.drained + account.undrained, drained=account.drained)

    def recovered(self, organization: str, amount: int) -> None:
        """Usage that recovery found in a journal and the ledger does not have: no hold of ours stood for it."""
        account = self._accounts.get(organization)
        if account is not None:
            account.undrained += amount

    async def posted(self, organization: str, *, sequence: int, delta: int) -> bool:
        """False also where the account is not open: whoever opens it brings the balance of then."""
        account = self._accounts.get(organization)
        return account is not None and account.post(sequence, delta)

    async def drained(self, organization: str, amount: int) -> None:
        account = self._accounts.get(organization)
        if account is not None:
            account.drain(amount)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def admit(self, ask: Ask) -> Admitted | Refused:
        """All or nothing. Raises HoldFault where the hold's id was used before."""
        hold_id, subject, amount = ask.hold_id, ask.subject, ask.amount
        if hold_id in self._holds or hold_id in self._ended:
            raise HoldFault(f"{hold_id} was admitted before")
        track = self._tracks.get((subject.key, subject.mode)) or self._track(subject)
        account = track.account
        if account.posted - account.undrained - account.held + account.allowance < amount:
            return refusals.of_credit(account, subject.organization, amount)
        wall = self._wall_ns()
        windows: tuple[Window, ...] = ()
        if track.caps:
            windows = tuple([counter.at(wall) for counter in track.caps])
            for window in windows:
                if window.used + window.held + amount > window.cap.amount_nano_usd:
                    return refusals.of_caps(windows, amount, wall)
        now = self._monotonic_ns()
        asked = (1, ask.input_tokens, ask.output_tokens)
        for bucket in track.buckets:
            level = bucket.level + (now - bucket.at) * bucket.refill
            if level > bucket.full:
                level = bucket.full
            bucket.level = level
            bucket.at = now
            if level < asked[bucket.kind] * bucket.unit:
                return refusals.of_rates(track.buckets, track.gates, asked, now, wall)
        for gate in track.gates:
            if gate.used >= gate.limit.capacity:
                return refusals.of_rates(track.buckets, track.gates, asked, now, wall)
        return self._debit(ask, track, windows, asked, wall)

    def _debit(
        self, ask: Ask, track: Track, windows: tuple[Window, ...], asked: tuple[int, int, int], wall: int
    ) -> Admitted:
        """The second phase: every limit has room."""
        amount = ask.amount
        track.account.held += amount
        for window in windows:
            window.held += amount
        for gate in track.gates:
            gate.used += 1
        tightest: list[Bucket | None] = [None, None, None]
        for bucket in track.buckets:
            kind = bucket.kind
            bucket.level -= asked[kind] * bucket.unit
            other = tightest[kind]
            if other is None or bucket.level * other.unit < other.level * bucket.unit:
                tightest[kind] = bucket
        self._holds[ask.hold_id] = _Hold(track, ask, windows, wall)
        requests, inputs, outputs = tightest
        return Admitted(
            ask.hold_id,
            None if requests is None else rate_state(requests, wall),
            None if inputs is None else rate_state(inputs, wall),
            None if outputs is None else rate_state(outputs, wall),
        )

    async def extend(self, hold_id: str, *, amount: int, output_tokens: int) -> Admitted | Refused:
        """Add to an open hold; caps in the period in which it was admitted. KeyError where no such hold is open."""
        hold = self._holds[hold_id]
        account = hold.track.account
        if account.left < amount:
            return refusals.of_credit(account, hold.subject.organization, amount)
        if any(window.left < amount for window in hold.windows):
            return refusals.of_caps(hold.windows, amount, self._wall_ns())
        if output_tokens and hold.track.outputs:
            now = self._monotonic_ns()
            asked = (0, 0, output_tokens)
            if any(bucket.level_at(now) < output_tokens * bucket.unit for bucket in hold.track.outputs):
                return refusals.of_rates(hold.track.outputs, (), asked, now, self._wall_ns())
            for bucket in hold.track.outputs:
                bucket.level -= output_tokens * bucket.unit
        account.held += amount
        for window in hold.windows:
            window.held += amount
        hold.amount += amount
        hold.output += output_tokens
        return Admitted(hold_id)

    async def settle(self, hold_id: str, used: Used) -> bool:
        """End the hold. Where more was used than held the settlement stands, for it is what happened, and HoldFault is
        raised after it: I3 was broken. More tokens than asked for are taken from the buckets, below zero if need be."""
        hold = self._end(hold_id)
        if hold is None:
            return False
        hold.track.account.undrained += used.amount
        for window in hold.windows:
            window.used += used.amount
        self._give_back(hold, hold.input - used.input_tokens, hold.output - used.output_tokens)
        if used.amount > hold.amount:
            raise HoldFault(f"{hold_id} held {hold.amount} and was settled at {used.amount}")
        return True

    async def release(self, hold_id: str) -> bool:
        hold = self._end(hold_id)
        if hold is None:
            return False
        self._give_back(hold, hold.input, hold.output)
        return True

    def _end(self, hold_id: str) -> _Hold | None:
        """Free what the hold reserved of money and concurrency; None where it is over."""
        hold = self._holds.pop(hold_id, None)
        if hold is None:
            return None
        if len(self._ended) >= ENDED_REMEMBERED:
            self._ended.popitem(last=False)
        self._ended[hold_id] = None
        hold.track.account.held -= hold.amount
        for window in hold.windows:
            window.held -= hold.amount
        for gate in hold.track.gates:
            gate.used -= 1
        return hold

    def _give_back(self, hold: _Hold, inputs: int, outputs: int) -> None:
        now = self._monotonic_ns()
        back = (0, inputs, outputs)
        for bucket in hold.track.buckets:
            if bucket.kind:
                bucket.give_back(back[bucket.kind], now)

    def _track(self, subject: Subject) -> Track:
        """Lay out what the subject meets. Not kept for an organization that is unknown: it may become known."""
        account = self._accounts.get(subject.organization)
        rules = [self._rules.get(scope_id) for scope_id in (subject.organization, subject.project, subject.key)]
        track = Track(account or Account(), [rule for rule in rules if rule is not None], subject.mode)
        if account is not None:
            if len(self._tracks) >= TRACKS_MAX:
                self._tracks.clear()
            self._tracks[subject.key, subject.mode] = track
        return track

    # -- what callers are told ----------------------------------------------------------------------------------------

    async def balance(self, organization: str) -> Balance:
        """Zeros where the organization is unknown. `available` leaves the allowance out."""
        account = self._accounts.get(organization) or Account()
        return Balance(
            available=account.available, held=account.held, posted=account.posted, undrained=account.undrained
        )

    async def holders(self, organization: str, scope_id: str) -> list[Holder]:
        return heaviest(
            (subject.key, hold.amount, hold.output)
            for hold in self._holds.values()
            if scope_id in ((subject := hold.subject).organization, subject.project, subject.key)
            and subject.organization == organization
        )

    async def states(self, subject: Subject) -> list[LimitState]:
        now, wall = self._monotonic_ns(), self._wall_ns()
        states: list[LimitState] = []
        for scope_id in (subject.organization, subject.project, subject.key):
            rules = self._rules.get(scope_id)
            if rules is None:
                continue
            for bucket in rules.buckets.values():
                bucket.level_at(now)
                states.append(rate_state(bucket, wall))
            states.extend(gate_state(gate) for gate in rules.gates.values())
            states.extend(cap_state(counter.at(wall)) for counter in rules.caps.values())
        account = self._accounts.get(subject.organization) or Account()
        states.append(credit_state(account, subject.organization))
        return states
