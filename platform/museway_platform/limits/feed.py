"""What the database says about limits and money, carried into the limiter of this process and kept in step.

The first poll loads everything; later ones read what changed, by transaction horizons, so that nothing that commits late is
skipped. Money is applied once per organization and sequence. Usage is not read here: the process's own drain tells it.
Everything that was in the journals must be in the ledger before the first poll: a balance is read from there once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

from msgspec import Struct

from museway_billing.ledger import store as ledger
from museway_platform.database.changes import ChangeReader
from museway_platform.database.pool import Connection, Pool
from museway_platform.limits import store
from museway_platform.limits.fed import FedLimiter, Spent
from museway_platform.limits.limiter import LimiterUnavailable, Scope
from museway_platform.limits.policy import PlanLimits, Policy, overridden
from museway_platform.limits.spending import bounds

_NOTHING_YET = 1 << 62
"""A transaction that no database reaches: asks for no money, only for the horizon."""
_RELOAD_AFTER_S = 3600.0
"""Changes are kept for a day; who was away for a good part of it reads all policies again."""

_AT_A_TIME = 100


class _Sum(Struct, frozen=True):
    question: store.SpentQuestion
    amount: int
    drained_before: int


class Feed:
    """Of one process. `poll` belongs on its `Watch`."""

    def __init__(
        self,
        limiter: FedLimiter,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limiter = limiter
        self._wall_ns = wall_ns
        self._clock = clock
        self._turn = asyncio.Lock()
        self._loaded = asyncio.Event()
        self._changes = ChangeReader()
        self._money: int | None = None
        self._plans: dict[str, PlanLimits] = {}
        self._polled = clock()
        self._is_away = False

    def reload(self) -> None:
        """The limiter has forgotten everything: the next poll tells it all."""
        self._loaded.clear()

    async def poll(self, connection: Connection) -> None:
        """Apply what changed since the last poll; the first time, everything. A limiter that can't be told now is told all
        of it by a later poll."""
        try:
            await self._poll(connection)
        except LimiterUnavailable:
            self._loaded.clear()
            self._is_away = True
        else:
            self._is_away = False

    async def _poll(self, connection: Connection) -> None:
        async with self._turn:
            began = self._clock()
            if began - self._polled > _RELOAD_AFTER_S:
                self._loaded.clear()
            if self._money is None:
                # Before anything is read, and kept if the load fails half-way: what it read counts from here.
                _, self._money = await ledger.money_since(connection, _NOTHING_YET)
            changes = await self._changes.read(connection) or []
            if self._loaded.is_set():
                by_kind: dict[str, list[str]] = {}
                for change in changes:
                    by_kind.setdefault(change.kind, []).append(change.subject)
                await self._apply(connection, by_kind)
            else:
                await self._load_all(connection)
                self._loaded.set()
            rows, horizon = await ledger.money_since(connection, self._money)
            await self._post(rows)
            await self._post_missing(connection, {row.organization: row.sequence for row in rows})
            self._money = horizon
            self._polled = began

    def introducer(self, pool: Pool) -> Callable[[str, str, str], Awaitable[None]]:
        """For `Directory`: limits and balance of who is new to this process are known before its first request, also
        where it paid a moment ago and the notification is still on its way."""

        async def introduce(organization: str, project: str, key: str) -> None:
            if self._is_away:
                return  # nothing is admitted now; before anything is, everybody is introduced
            await self._loaded.wait()
            async with pool.acquire() as connection:
                if self._limiter.knows(organization):
                    balance = await ledger.balance(connection, organization)
                    if balance.sequence > self._limiter.sequence(organization):
                        await self.poll(connection)
                    return
                async with self._turn:
                    await self._load(connection, [organization], [project, key])

        return introduce

    async def _post(self, rows: Iterable[ledger.MoneyIn]) -> None:
        for row in rows:
            await self._limiter.posted(row.organization, sequence=row.sequence, delta=row.delta)

    async def _post_missing(self, connection: Connection, latest: Mapping[str, int]) -> None:
        """Where a shared account lacks what came in before we looked, and whoever was to tell it has died."""
        known = {
            organization: self._limiter.sequence(organization)
            for organization, sequence in latest.items()
            if self._limiter.knows(organization) and self._limiter.sequence(organization) < sequence
        }
        if known:
            await self._post(await ledger.money_after(connection, known))

    async def _load_all(self, connection: Connection) -> None:
        self._plans = await store.plans(connection)
        own = await store.policies(connection)
        await self._take_terms(connection, await store.terms(connection), own)
        self._limiter.told()

    async def _apply(self, connection: Connection, changed: Mapping[str, Sequence[str]]) -> None:
        plans = changed.get("plan", ())
        if plans:
            self._plans = await store.plans(connection)
        scopes = changed.get("limits", ())
        organizations = [*changed.get("organization", ()), *(scope for scope in scopes if scope.startswith("org_"))]
        if organizations or plans or scopes:
            await self._load(connection, organizations, scopes, plans)

    async def _load(
        self, connection: Connection, organizations: Sequence[str], scopes: Sequence[str], plans: Sequence[str] = ()
    ) -> None:
        terms = await store.terms(connection, organizations=organizations, plans=plans)
        wanted = {*scopes, *(one.id for one in terms)}
        own = await store.policies(connection, sorted(wanted))
        for scope_id in wanted - own.keys():
            own[scope_id] = Policy(scope=_scope(scope_id), scope_id=scope_id)
        await self._take_terms(connection, terms, own)

    async def _take_terms(
        self, connection: Connection, terms: Iterable[store.OrganizationTerms], own: dict[str, Policy]
    ) -> None:
        """Open accounts, then set every policy of `own`, organizations' ones on top of their plans."""
        terms = list(terms)
        await self._open(connection, [one.id for one in terms if not self._limiter.knows(one.id)])
        for one in terms:
            self._limiter.set_allowance(one.id, one.allowance_nano_usd)
            policy = own.get(one.id) or Policy(scope="organization", scope_id=one.id)
            rates = overridden(self._plans[one.plan], policy.rates)
            own[one.id] = Policy(scope="organization", scope_id=one.id, rates=rates, caps=policy.caps)
        sums = await self._sums(connection, [policy for policy in own.values() if policy.caps])
        for number, policy in enumerate(own.values()):
            if number % _AT_A_TIME == 0:
                await asyncio.sleep(0)  # streams go on while a plan of thousands changes
            known = sums.get(policy.scope_id, ())
            await self._limiter.configure(
                policy,
                {one.question.period: Spent(one.question.since, one.amount, one.drained_before) for one in known},
                organization=known[0].question.organization if known else None,
            )

    async def _open(self, connection: Connection, organizations: Sequence[str]) -> None:
        """Where another process had opened an account, it is brought up to what the ledger has by now."""
        if not organizations:
            return
        balances = {one.organization: one for one in await ledger.balances(connection, organizations)}
        opened: list[Coroutine[object, object, None]] = []
        for organization in organizations:
            balance = balances.get(organization)
            posted, sequence = (0, 0) if balance is None else (balance.posted, balance.sequence)
            opened.append(self._limiter.open_account(organization, posted=posted, sequence=sequence))
        await asyncio.gather(*opened)
        await self._post_missing(connection, {one.organization: one.sequence for one in balances.values()})

    async def _sums(self, connection: Connection, capped: Sequence[Policy]) -> dict[str, list[_Sum]]:
        """What the ledger has for each cap, by scope.

        A cap that is new begins with it, and with all that the organization used and is not in it yet: that part is the
        whole organization's though the cap may be one key's, and counts twice what was drained while the ledger was asked:
        at most a second's usage too much, in the period in which the cap is set. Never too little.
        """
        owners = await store.owners(connection, [policy.scope_id for policy in capped])
        asked = sorted(set(owners.values()))
        flows = await asyncio.gather(*(self._limiter.flow(owner) for owner in asked))
        drained = {owner: flow.drained for owner, flow in zip(asked, flows, strict=True)}
        now = self._wall_ns()
        questions = [
            store.SpentQuestion(policy.scope, policy.scope_id, owner, cap.period, bounds(cap.period, now)[0])
            for policy in capped
            if (owner := owners.get(policy.scope_id)) is not None
            for cap in policy.caps
        ]
        sums: dict[str, list[_Sum]] = {}
        for question, amount in zip(questions, await store.spent(connection, questions), strict=True):
            sums.setdefault(question.scope_id, []).append(_Sum(question, amount, drained[question.organization]))
        return sums


def _scope(scope_id: str) -> Scope:
    match scope_id.partition("_")[0]:
        case "org":
            return "organization"
        case "prj":
            return "project"
        case _:
            return "key"
