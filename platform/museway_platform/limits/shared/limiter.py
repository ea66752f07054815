"""The limiter that many processes share. Counters are Redis's; policies are this process's own, fed from the database.

It is shut until `Membership` says that the counters are whole: then everything it can't ask is unavailable, but for the
ends of holds, which wait here and are sent when it opens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from museway_platform.database.redis import RedisServer
from museway_platform.limits import refusals
from museway_platform.limits.fed import Flow, Spent
from museway_platform.limits.limiter import (
    Admitted,
    Ask,
    Balance,
    Holder,
    HoldFault,
    LimiterUnavailable,
    LimitState,
    Refused,
    Subject,
    Used,
)
from museway_platform.limits.policy import Period, Policy
from museway_platform.limits.rules import Rules
from museway_platform.limits.shared.own import Hold, OwnUse
from museway_platform.limits.shared.packing import AMOUNT_MAX, Layout, show_money
from museway_platform.limits.shared.trips import Answer, RoundTrips, answers_of
from museway_platform.limits.spending import Account
from museway_platform.limits.states import credit_state, heaviest

LAYOUTS_MAX = 200_000
AGAIN_S = 1.0
"""After what time to come back where the limiter could not be asked for more of a hold."""


class SharedLimiter:
    """`Limiter` and `FedLimiter` over Redis. `journal` names this process for ever. `now_us` is for tests that have a time
    of their own. `run` belongs into the process's background."""

    def __init__(self, journal: str, *, now_us: Callable[[], int] = lambda: 0) -> None:
        self.journal = journal
        self.loss = asyncio.Event()
        """Something is wrong with Redis or its counters: `Membership` has to look."""
        self.lost: str | None = None
        """The counters are not what they were, and why."""
        self._whole = asyncio.Event()
        self.is_open = False
        self.is_told = False
        """Every organization's account was opened here: who is unknown has no credit."""
        self.generation = 0
        self._trips = RoundTrips(journal, lost=self._noticed, now_us=now_us)
        self._accounts: dict[str, Account] = {}
        self._rules: dict[str, Rules] = {}
        self._layouts: dict[tuple[str, str], Layout] = {}
        self.own = OwnUse(journal, self._trips)

    @property
    def holds_open(self) -> int:
        return len(self.own.holds)

    async def run(self) -> None:
        await self._trips.run()

    # -- what Membership says -----------------------------------------------------------------------------------------

    async def use(self, server: RedisServer, generation: int, *, anew: bool) -> None:
        """Ask this server from now on, still shut. `anew`: in another generation of the counters than before, so that every
        account has to be opened again. Raises RedisUnavailable."""
        self.shut()
        self.lost = None
        self.generation = generation
        if anew:
            self._accounts = {}
            self.is_told = False
            self._layouts.clear()
        await self._trips.use(server, generation)

    def open(self) -> None:
        """The counters are whole. What ended meanwhile is sent now."""
        self.is_open = True
        if self.is_told:
            self._whole.set()
        self.own.open()

    def shut(self) -> None:
        self.is_open = False
        self._whole.clear()
        self.own.shut()

    def away(self) -> None:
        """Redis can't be reached."""
        self.shut()
        self._trips.stop()

    def _noticed(self, lost: str) -> None:
        """An empty text: it is away."""
        self.shut()
        self.lost = self.lost or lost or None
        self.loss.set()

    async def orphans(self, organization: str, journal: str) -> list[str]:
        """The open holds of another process."""
        found, _ = await self._trips.ask(organization, "list", journal)
        return [hold[0] for hold in found]

    async def end_orphan(self, organization: str, hold_id: str, used: Used) -> None:
        """End a dead process's hold by what the ledger has of it; to be followed by `forget`."""
        await self._trips.ask(organization, "settle", hold_id, used.input_tokens, used.output_tokens, used.amount)

    async def forget(self, organization: str, journal: str) -> None:
        """All that `journal` held is in the ledger."""
        await self._trips.ask(organization, "forget", journal)

    async def open_accounts(self, balances: Mapping[str, tuple[int, int]]) -> None:
        """By organization: the ledger's balance and the sequence of its money."""
        opened = [
            self._trips.ask(organization, "open", str(posted), sequence, entering=True)
            for organization, (posted, sequence) in balances.items()
        ]
        await answers_of(opened)

    def told(self) -> None:
        self.is_told = True
        if self.is_open:
            self._whole.set()

    async def whole(self) -> None:
        """Wait until it serves: the counters are whole, and it was told what the database says."""
        await self._whole.wait()

    @property
    def is_whole(self) -> bool:
        return self._whole.is_set()

    # -- what the database says ---------------------------------------------------------------------------------------

    def knows(self, organization: str) -> bool:
        return organization in self._accounts

    def sequence(self, organization: str) -> int:
        return self._trips.sequences[organization]

    async def open_account(self, organization: str, *, posted: int, sequence: int) -> None:
        self._require_open()
        if organization not in self._accounts:
            await self.open_accounts({organization: (posted, sequence)})
            self._accounts[organization] = Account()

    def set_allowance(self, organization: str, amount: int) -> None:
        account = self._accounts[organization]
        if account.allowance != amount:
            account.allowance = amount
            self._layouts.clear()

    async def configure(
        self, policy: Policy, spent: Mapping[Period, Spent] | None = None, *, organization: str | None = None
    ) -> None:
        if policy.caps and organization is not None:
            await self._begin_windows(policy, spent or {}, organization)
        rules = self._rules.get(policy.scope_id)
        if rules is None:
            rules = self._rules[policy.scope_id] = Rules(policy.scope, policy.scope_id)
        rules.adopt(policy, 0, 0)
        self._layouts.clear()

    async def _begin_windows(self, policy: Policy, spent: Mapping[Period, Spent], organization: str) -> None:
        self._require_open()
        begun: list[asyncio.Future[Answer]] = []
        for cap in policy.caps:
            before = spent.get(cap.period, Spent(-1, 0))
            amount = before.amount - before.drained_before
            window = (policy.scope_id, cap.period, before.start // 1000, amount)
            begun.append(self._trips.ask(organization, "window", *window))
        await answers_of(begun)

    async def flow(self, organization: str) -> Flow:
        if organization not in self._accounts:
            return Flow(settled=0, drained=0)
        self._require_open()
        said, _ = await self._trips.ask(organization, "peek")
        settled, drained = (int(text) + more for text, more in said[2:])
        return Flow(settled=settled, drained=drained)

    async def posted(self, organization: str, *, sequence: int, delta: int) -> bool:
        """False also where the account is not open: whoever opens it brings the balance of then."""
        if organization not in self._accounts:
            return False
        self._require_open()
        said, _ = await self._trips.ask(organization, "posted", sequence, delta)
        return bool(said[0])

    async def drained(self, organization: str, amount: int) -> None:
        self.own.drained(organization, amount)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def admit(self, ask: Ask) -> Admitted | Refused:
        """All or nothing. Raises HoldFault where the hold's id was used before, LimiterUnavailable."""
        self._require_open()
        hold_id, subject, amount = ask.hold_id, ask.subject, ask.amount
        if amount >= AMOUNT_MAX:
            raise HoldFault(f"{hold_id} asks for {amount} nano-USD, more than can be counted exactly")
        layout = self._layouts.get((subject.key, subject.mode)) or self._layout(subject)
        if layout is None:
            if not self.is_told:
                raise LimiterUnavailable("accounts are being opened")
            return refusals.of_credit(Account(), subject.organization, amount)
        asked = (1, ask.input_tokens, ask.output_tokens)
        try:
            said, now = await self._trips.ask(
                subject.organization,
                "admit",
                hold_id,
                subject.key,
                amount,
                ask.input_tokens,
                ask.output_tokens,
                track=layout.packed,
            )
        except (asyncio.CancelledError, LimiterUnavailable):
            self.own.end(hold_id, subject.organization, None)  # it may have been taken
            raise
        match said[0]:
            case "ok":
                self.own.holds[hold_id] = Hold(ask, layout, now)
                return layout.admitted(hold_id, said[1], now)
            case "again":
                raise HoldFault(f"{hold_id} was admitted before")
            case "closed":
                raise LimiterUnavailable(
                    f"a cap of {subject.key} has no window yet, or this process was taken for dead"
                )
            case _:
                return layout.refused(said, subject.organization, amount, asked, now)

    async def extend(self, hold_id: str, *, amount: int, output_tokens: int) -> Admitted | Refused:
        hold = self.own.holds[hold_id]
        subject = hold.subject
        layout = self._layouts.get((subject.key, subject.mode)) or self._layout(subject)
        if not self.is_open or layout is None:
            return _unasked(subject, amount)
        try:
            said, now = await self._trips.ask(
                subject.organization, "extend", hold_id, amount, output_tokens, track=layout.packed
            )
        except LimiterUnavailable:
            return _unasked(subject, amount)
        match said[0]:
            case "ok":
                hold.amount += amount
                hold.outputs += output_tokens
                return Admitted(hold_id)
            case "none":  # ended by a process that took this one for dead
                return _unasked(subject, amount)
            case _:
                return layout.refused(said, subject.organization, amount, (0, 0, output_tokens), now)

    async def settle(self, hold_id: str, used: Used) -> bool:
        """Where more was used than held the settlement stands, and HoldFault is raised after it."""
        hold = self.own.holds.get(hold_id)
        if hold is None:
            return False
        await self.own.ended(hold_id, hold.subject.organization, used)
        if used.amount > hold.amount:
            raise HoldFault(f"{hold_id} held {hold.amount} and was settled at {used.amount}")
        return True

    async def release(self, hold_id: str) -> bool:
        hold = self.own.holds.get(hold_id)
        if hold is None:
            return False
        await self.own.ended(hold_id, hold.subject.organization, None)
        return True

    def _layout(self, subject: Subject) -> Layout | None:
        """None where the organization is unknown."""
        account = self._accounts.get(subject.organization)
        if account is None:
            return None
        if len(self._layouts) >= LAYOUTS_MAX:
            self._layouts.clear()
        layout = self._layouts[subject.key, subject.mode] = self._make_layout(account, subject, subject.mode)
        return layout

    def _make_layout(self, account: Account, subject: Subject, mode: str | None) -> Layout:
        scopes = (subject.organization, subject.project, subject.key)
        return Layout(account, [rules for scope in scopes if (rules := self._rules.get(scope))], scopes, mode)

    def _require_open(self) -> None:
        if not self.is_open:
            raise LimiterUnavailable(self.lost or "Redis is away or its counters are not whole")

    # -- what callers are told ----------------------------------------------------------------------------------------

    async def balance(self, organization: str) -> Balance:
        self._require_open()
        account = Account()
        if organization in self._accounts:
            said, _ = await self._trips.ask(organization, "peek")
            show_money(account, said)
        return Balance(
            available=account.available, held=account.held, posted=account.posted, undrained=account.undrained
        )

    async def states(self, subject: Subject) -> list[LimitState]:
        self._require_open()
        account = self._accounts.get(subject.organization)
        if account is None:
            return self._make_layout(Account(), subject, "").states(((), (), (), ()), subject.organization, 0)
        layout = self._make_layout(account, subject, None)
        said, now = await self._trips.ask(subject.organization, "states", track=layout.packed)
        return layout.states(said, subject.organization, now)

    async def holders(self, organization: str, scope_id: str) -> list[Holder]:
        self._require_open()
        if organization not in self._accounts:
            return []
        found, _ = await self._trips.ask(organization, "list", "")
        return heaviest((key, amount, outputs) for _, key, scopes, amount, outputs in found if scope_id in scopes)


def _unasked(subject: Subject, amount: int) -> Refused:
    """Nothing more can be had of the hold now."""
    state = credit_state(Account(), subject.organization)
    return Refused(state=state, asked=amount, retry_after_s=AGAIN_S, is_unasked=True)
