"""The way of one request: choose, admit, run, meter, settle (DESIGN §1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, cast

from msgspec import Struct, structs

from museway_billing.meter.refunds import REFUNDS
from museway_billing.prices import PriceBook
from museway_billing.usage import Tariff
from museway_engine.allowance import AllowanceRefused
from museway_engine.completion import Completion
from museway_engine.engine import Engine
from museway_engine.events import AnyEvent, Chosen, Done, Finish, Output, Reasoning
from museway_engine.pool.isolation import cache_salt
from museway_engine.run import Prepared
from museway_platform.identity.principal import Principal
from museway_platform.limits.limiter import LimiterUnavailable
from museway_platform.serving.admission import Admission, Budget, RequestAllowance
from museway_platform.serving.bill import Bill, make_bill
from museway_platform.serving.fit import fit_max_cost
from museway_platform.serving.refusals import Denied, Draining, Forbidden
from museway_platform.serving.settlement import outcome_of

Run = AbstractAsyncContextManager[AsyncIterator[Sequence[AnyEvent]]]


class Repeatable(Struct, frozen=True):
    """What makes a request one that can be asked for again: the hash of its key, and `gate`, waited for before a batch is
    counted: it returns once somebody is there to take it."""

    idempotency_hash: bytes
    gate: Callable[[], Awaitable[None]]


class Serving:
    """Serves requests of one process. `book` may be replaced at any time by a newer one."""

    def __init__(self, *, engine: Engine, admission: Admission, book: PriceBook, secret: bytes) -> None:
        self.engine = engine
        self.admission = admission
        self.book = book
        self.draining = False
        self._secret = secret
        self._salts: dict[str, str] = {}
        self._tariffs: dict[tuple[str, str, str], Tariff] = {}
        self._tariffs_of: PriceBook | None = None
        self._tariffs_until = 0.0
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def serve(
        self, principal: Principal, completion: Completion, max_cost: int | None, repeatable: Repeatable | None = None
    ) -> Answer:
        """One request, to be entered with `async with`."""
        return Answer(self, principal, completion, max_cost, repeatable)

    async def prepare(
        self, principal: Principal, completion: Completion, max_cost: int | None, idempotency_hash: bytes = b""
    ) -> tuple[Prepared, Budget]:
        """Mode, maxima, tariff; made to fit `max_cost`. Raises InvalidForModel, OverMaxCost, Forbidden, UnknownPrice."""
        if completion.mode is None and completion.effort is None and principal.default_mode is not None:
            completion = structs.replace(completion, mode=principal.default_mode)
        prepared = self.engine.prepare(completion)
        check_permitted(principal, prepared)
        tariff = self.tariff(principal.organization, prepared)
        budget = Budget(principal=principal, tariff=tariff, max_cost=max_cost, idempotency_hash=idempotency_hash)
        if max_cost is not None:
            prepared = await fit_max_cost(self.engine, prepared, tariff, max_cost)
        return prepared, budget

    def tariff(self, organization: str, prepared: Prepared) -> Tariff:
        """The prices in force now for the mode that will run. Raises UnknownPrice."""
        if time.time() >= self._tariffs_until or self._tariffs_of is not self.book:
            self._forget_tariffs()
        key = (organization, prepared.completion.model, prepared.resolved)
        tariff = self._tariffs.get(key)
        if tariff is None:
            tariff = self._tariffs[key] = self.book.tariff(*key, datetime.now(UTC))
        return tariff

    def _forget_tariffs(self) -> None:
        """What was looked up holds for this book, until its next version takes effect."""
        change = self.book.next_change(datetime.now(UTC))
        self._tariffs_until = float("inf") if change is None else change.timestamp()
        self._tariffs_of = self.book
        self._tariffs.clear()

    def salt(self, organization: str) -> str:
        """The cache salt of an organization: its prompts share no prefix cache with another's (I6)."""
        salt = self._salts.get(organization)
        if salt is None:
            salt = self._salts[organization] = cache_salt(self._secret, organization)
        return salt

    def entered(self) -> None:
        """A request begins. Raises Draining where the process takes nothing new."""
        if self.draining:
            raise Draining
        self.running += 1
        self._idle.clear()

    def left(self) -> None:
        self.running -= 1
        if self.running == 0:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no request runs, the clean-up of broken-off ones included."""
        await self._idle.wait()


class Answer:
    """One request under way: enter it, iterate the batches to the end, then ask for the `bill`.

    Entering admits and starts; it raises Denied, OverMaxCost, Forbidden, Draining, JournalFull and the engine's errors.
    Leaving aborts what still runs and settles, however it is left. A class and not a generator: on the hot path each
    asynchronous generator costs what a dozen function calls do.

    Batches are counted in the journal's slots and covered by the hold before they are given out. Where the hold ends
    before the answer does, the answer ends there with `length`.
    """

    def __init__(
        self,
        serving: Serving,
        principal: Principal,
        completion: Completion,
        max_cost: int | None,
        repeatable: Repeatable | None = None,
    ) -> None:
        self._hash = b"" if repeatable is None else repeatable.idempotency_hash
        self._gate = None if repeatable is None else repeatable.gate
        self._serving = serving
        self._principal = principal
        self._completion = completion
        self._max_cost = max_cost
        self._done: Done | None = None
        self._chosen: Chosen | None = None
        self._stopped = False
        self._delivered = False

    async def __aenter__(self) -> Self:
        serving = self._serving
        serving.entered()
        try:
            self.prepared, budget = await serving.prepare(self._principal, self._completion, self._max_cost, self._hash)
            self._allowance = await serving.admission.grant(self.prepared, budget, self._recount)
            self.prepared, self.admitted = self._allowance.prepared, self._allowance.admitted
            try:
                await self._start(self._allowance)
            except BaseException as error:
                if isinstance(error, Exception):
                    self.fail()
                await self._allowance.end()
                raise
        except BaseException:
            serving.left()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.fail()
        try:
            await self._stop(kind, error, trace)
        finally:
            try:
                await self._allowance.end()
            finally:
                self._serving.left()

    async def _start(self, allowance: RequestAllowance) -> None:
        salt = self._serving.salt(self._principal.organization)
        self._run: Run = self._serving.engine.run(
            self.prepared, allowance=allowance, cache_salt=salt, affinity_salt=salt
        )
        try:
            self._source = aiter(await self._run.__aenter__())
        except AllowanceRefused as refused:
            raise _cause(refused) from None

    async def _stop(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the engine's context, once."""
        if not self._stopped:
            self._stopped = True
            await self._run.__aexit__(kind, error, trace)

    async def _recount(self) -> Prepared:
        ids = await self._serving.engine.tokenize(self.prepared.completion)
        return self._serving.engine.prepare(self.prepared.completion, prompt_tokens=len(ids))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[AnyEvent]:
        if self._allowance.exhausted:
            raise StopAsyncIteration
        batch: Sequence[AnyEvent] = ()
        try:
            batch = await self._source.__anext__()
        except AllowanceRefused as refused:
            if not self._delivered:
                raise _cause(refused) from None
            self._allowance.exhausted = True  # what was given before stays: the answer ends where its hold ends
        if self._gate is not None:
            await self._gate()
        allowed = await self._allowance.deliver(batch)
        if self._allowance.exhausted:
            self._done = Done(stop_reason="budget")
            return [*allowed, *self._cut(), self._done]
        for event in allowed:
            kind = type(event)
            if kind is Output or kind is Reasoning:
                self._delivered = True
            elif kind is Done:
                self._done = cast("Done", event)
            elif kind is Chosen:
                self._chosen = cast("Chosen", event)
        return allowed

    def fail(self) -> None:
        """Nothing of the answer reaches the client: all that it was charged is given back."""
        self._allowance.failed = True

    def abandon(self) -> None:
        """It ends before all that was made had been given out: what was not is not billed."""
        self._allowance.abandoned = True

    @property
    def is_given_back(self) -> bool:
        return self._allowance.failed

    def broke_off(self, error: Exception) -> None:
        """A stream ends by `error` after text had left. The table of refunds says what that means; a request that could not
        be answered as it is (a grammar that does not compile) would else be a way to have its chain for nothing."""
        if REFUNDS[outcome_of(error)].given_back:
            self.fail()

    @property
    def _is_shortened(self) -> bool:
        """It ended at a length that the hold had set, not the client."""
        return self._allowance.shortened and self._done is not None and self._done.stop_reason == "length"

    def _cut(self) -> list[AnyEvent]:
        return [Finish(choice=choice, reason="length") for choice in range(self.prepared.completion.n)]

    async def bill(self) -> Bill:
        """What it came to, settled. To be asked once the batches have ended."""
        bill = await self.draft()
        await self.settle()
        return bill

    async def draft(self) -> Bill:
        """What it comes to: as `bill`, with nothing settled yet.

        Where the hold ended first, what still runs is aborted and counted before the bill is made.
        """
        if self._allowance.exhausted:
            await self._stop(None, None, None)
        return make_bill(
            self.prepared,
            self._allowance.records,
            version=self._allowance.tariff.version,
            done=self._done,
            exhausted=self._allowance.exhausted or self._is_shortened,
            chosen=self._chosen,
        )

    async def settle(self) -> None:
        """Make the bill durable and end the hold."""
        await self._allowance.settle()


def check_permitted(principal: Principal, prepared: Prepared) -> None:
    """Raises Forbidden where the organization, project or key is denied the mode or the model."""
    if principal.denied:
        for what in (f"mode:{prepared.resolved.value}", f"model:{prepared.completion.model}"):
            if what in principal.denied:
                raise Forbidden(what)


def _cause(refused: AllowanceRefused) -> Exception:
    cause = refused.__cause__
    if not isinstance(cause, Denied):
        return refused
    return LimiterUnavailable("more of a hold could not be asked for") if cause.refused.is_unasked else cause
