"""The way of one request: choose, admit, run, meter, settle (DESIGN §1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from msgspec import structs
from museway_engine.engine import Engine
from museway_engine.pool.isolation import cache_salt

from museway_billing.prices import PriceBook
from museway_billing.usage import Tariff
from museway_engine.allowance import AllowanceRefused
from museway_engine.completion import Completion
from museway_engine.events import AnyEvent, Chosen, Done, Finish
from museway_engine.run import Prepared
from museway_platform.identity.principal import Principal
from museway_platform.serving.admission import Admission, Budget, RequestAllowance
from museway_platform.serving.bill import Bill, make_bill
from museway_platform.serving.fit import fit_max_cost
from museway_platform.serving.refusals import Denied, Draining


class Answer:
    """A request under way: iterate `batches()` to its end, then ask for the `bill`."""

    def __init__(self, allowance: RequestAllowance, source: AsyncIterator[Sequence[AnyEvent]]) -> None:
        self.prepared = allowance.prepared
        self.admitted = allowance.admitted
        self._allowance = allowance
        self._source = source
        self._done: Done | None = None
        self._chosen: Chosen | None = None

    async def batches(self) -> AsyncIterator[Sequence[AnyEvent]]:
        """Batches that may leave now: counted in the journal's slots, covered by the hold. The last has `Done`.

        Where the hold ends before the answer does, the answer ends there with `length`.
        """
        async for batch in self._source:
            allowed = await self._allowance.deliver(batch)
            if self._allowance.exhausted:
                self._done = Done(stop_reason="budget")
                yield [*allowed, *self._cut(), self._done]
                return
            for event in allowed:
                if type(event) is Done:
                    self._done = event
                elif type(event) is Chosen:
                    self._chosen = event
            yield allowed

    def _cut(self) -> list[AnyEvent]:
        return [Finish(choice=choice, reason="length") for choice in range(self.prepared.completion.n)]

    @property
    def exhausted(self) -> bool:
        return self._allowance.exhausted

    async def bill(self) -> Bill:
        """Settle, and say what it came to. To be called after the engine's context is left or `Done` was seen."""
        await self._allowance.settle()
        return make_bill(
            self.prepared,
            self._allowance.records,
            version=self._allowance.tariff.version,
            done=self._done,
            exhausted=self._allowance.exhausted,
            chosen=self._chosen,
        )


class Serving:
    """Serves requests of one process. `book` may be replaced at any time by a newer one."""

    def __init__(self, *, engine: Engine, admission: Admission, book: PriceBook, secret: bytes) -> None:
        self.engine = engine
        self.book = book
        self.draining = False
        self._admission = admission
        self._secret = secret
        self._salts: dict[str, str] = {}

    def salt(self, organization: str) -> str:
        """The cache salt of an organization: its prompts share no prefix cache with another's (I6)."""
        salt = self._salts.get(organization)
        if salt is None:
            salt = self._salts[organization] = cache_salt(self._secret, organization)
        return salt

    def tariff(self, organization: str, prepared: Prepared) -> Tariff:
        """The prices in force now for the mode that will run. Raises UnknownPrice."""
        now = datetime.now(UTC)
        return self.book.tariff(organization, prepared.completion.model, prepared.resolved.value, now)

    async def prepare(
        self, principal: Principal, completion: Completion, max_cost: int | None
    ) -> tuple[Prepared, Budget]:
        """Mode, maxima, tariff; made to fit `max_cost`. Raises InvalidForModel, OverMaxCost."""
        if completion.mode is None and completion.effort is None and principal.default_mode is not None:
            completion = structs.replace(completion, mode=principal.default_mode)
        prepared = self.engine.prepare(completion)
        tariff = self.tariff(principal.organization, prepared)
        budget = Budget(principal=principal, tariff=tariff, max_cost=max_cost)
        if max_cost is not None:
            prepared = await fit_max_cost(self.engine, prepared, tariff, max_cost)
        return prepared, budget

    @asynccontextmanager
    async def serve(self, principal: Principal, completion: Completion, max_cost: int | None) -> AsyncIterator[Answer]:
        """Admit and run one request. Leaving the context aborts what still runs and settles.

        Raises Denied, OverMaxCost, Draining, JournalFull and the engine's errors.
        """
        if self.draining:
            raise Draining
        prepared, budget = await self.prepare(principal, completion, max_cost)

        async def recount() -> Prepared:
            ids = await self.engine.tokenize(prepared.completion)
            return self.engine.prepare(prepared.completion, prompt_tokens=len(ids))

        salt = self.salt(principal.organization)
        async with self._admission.admit(prepared, budget, recount) as allowance:
            try:
                run = self.engine.run(allowance.prepared, allowance=allowance, cache_salt=salt, affinity_salt=salt)
                async with run as source:
                    yield Answer(allowance, source)
            except AllowanceRefused as refused:
                if isinstance(refused.__cause__, Denied):
                    raise refused.__cause__ from None
                raise
