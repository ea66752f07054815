"""Limits and money as one hold, and the allowance that the engine draws on until it is settled or released."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from museway_billing.journal import Journal, Slot
from museway_billing.money import MTOK
from museway_billing.usage import CallIdentity, Tariff, UsageRecord
from museway_engine.allowance import AllowanceRefused, CallSpec
from museway_engine.completion import Mode
from museway_engine.events import UNKNOWN, AnyEvent, Output, Reasoning, ToolCall
from museway_engine.run import Prepared
from museway_platform.identity.ids import new_id
from museway_platform.identity.principal import Principal
from museway_platform.limits.limiter import Admitted, Ask, Limiter, Refused, Subject
from museway_platform.serving import cover
from museway_platform.serving.lifetimes import uninterrupted
from museway_platform.serving.metering import CallMeter, text_size
from museway_platform.serving.refusals import Denied
from museway_platform.serving.settlement import as_abandoned, given_back, used_of, with_reserve

log = logging.getLogger("museway.admission")

Recount = Callable[[], Awaitable[Prepared]]

_COUNT_MATTERS = ("credit", "spend", "input_tokens", "output_tokens")
_COUNTED = (Output, Reasoning, ToolCall)

SETTLE_S = 5.0
"""How long a settlement may take when its request is already gone."""

STEP_TOKENS = 256
"""A streaming call's hold covers this many tokens at a time, and is extended at half."""


class Budget(Struct, frozen=True, kw_only=True):
    """What bounds one request besides the limiter. Amounts in nano-USD. `idempotency_hash`: b"" where it can't be repeated."""

    principal: Principal
    tariff: Tariff
    max_cost: int | None
    idempotency_hash: bytes = b""


def now_us() -> int:
    return time.time_ns() // 1000


class RequestAllowance:
    """One request's hold, and the meters of its calls (`museway_engine.allowance.Allowance`)."""

    def __init__(
        self,
        limiter: Limiter,
        journal: Journal,
        prepared: Prepared,
        budget: Budget,
        grant: Grant,
    ) -> None:
        ask, admitted, share = grant.ask, grant.admitted, grant.share
        self._limiter = limiter
        self._journal = journal
        self.prepared = prepared
        self.tariff = budget.tariff
        self.admitted = admitted
        self._budget = budget
        self._hold_id = ask.hold_id
        self._subject = ask.subject
        self._held = ask.amount
        self._held_tokens = ask.output_tokens
        self._meters: dict[str, CallMeter] = {}
        self._closed_meters: dict[str, CallMeter] = {}
        self._reserved: dict[str, int] = {}
        self._slots: list[Slot] = []
        self._share = share
        self.ended = False
        self.records: list[UsageRecord] = []
        self.exhausted = False
        """A refused extension ended the answer (`budget_exhausted`)."""
        self.shortened = False
        """A call was dispatched with less than was asked for, since no more was covered."""
        self.failed = False
        """The request ends by a failure that is not the client's: all of it is given back."""
        self.abandoned = False
        """It ends before all that was made had been given out, and calls may be complete that nobody was given."""

    # -- the engine's side ------------------------------------------------------------------------------------------

    async def open(self, spec: CallSpec) -> CallMeter:
        """Reserve the prompt and a first step; the slot is taken first (JournalFull refuses before any money moves)."""
        tariff = self.tariff
        wanted = spec.max_tokens if spec.internal or spec.whole else min(spec.max_tokens, STEP_TOKENS)
        if self._share is not None and not spec.internal:
            wanted = min(wanted, self._share)
        slot = self._journal.open_slot(self._identity(spec))
        try:
            covered = await self._reserve(spec, cover.prompt_cost(tariff, spec), wanted)
        except BaseException:
            slot.free()
            raise
        max_tokens = self._most(spec, covered)
        self.shortened = self.shortened or max_tokens < spec.max_tokens
        meter = CallMeter(
            spec,
            slot,
            max_tokens=max_tokens,
            covered=covered,
            on_closed=self._closed,
            now_us=now_us,
        )
        self._meters[spec.rid] = meter
        self._slots.append(slot)
        return meter

    def fits(self, specs: Sequence[CallSpec]) -> bool:
        if self._budget.max_cost is None:
            return True
        tariff = self.tariff
        worst = sum(cover.prompt_cost(tariff, s) + cover.tokens_cost(tariff, s, s.max_tokens) for s in specs)
        return self._taken() + worst <= self._budget.max_cost

    async def _reserve(self, spec: CallSpec, prompt: int, tokens: int) -> int:
        """Take what `spec` needs out of the hold, extending it where it is short. The number of tokens covered."""
        tariff = self.tariff
        room = self._room()
        if room is not None:
            tokens = min(tokens, cover.affordable(tariff, spec, room - prompt))
        while tokens > 0:
            need = prompt + cover.tokens_cost(tariff, spec, tokens)
            refused = await self._ensure(need, tokens)
            if refused is None:
                self._reserved[spec.rid] = need
                return tokens
            tokens = min(tokens - 1, self._still(spec, refused, prompt))
            if tokens <= 0:
                raise AllowanceRefused from Denied(refused, self._subject)
        raise AllowanceRefused

    def _still(self, spec: CallSpec, refused: Refused, prompt: int) -> int:
        """How many tokens of the call would be granted after this refusal, beside `prompt` nano-USD."""
        left = refused.state.left
        match refused.state.metric:
            case "output_tokens":
                return left + self._held_tokens
            case "credit" | "spend":
                return cover.affordable(self.tariff, spec, left + self._free() - prompt)
            case _:
                return 0

    async def _ensure(self, need: int, tokens: int) -> Refused | None:
        """Make the hold large enough for `need` more and `tokens` of the output rate; None where it is."""
        short, more_tokens = max(0, need - self._free()), max(0, tokens - self._held_tokens)
        if short or more_tokens:
            answer = await self._limiter.extend(self._hold_id, amount=short, output_tokens=more_tokens)
            if isinstance(answer, Refused):
                return answer
            self._held += short
        self._held_tokens = max(0, self._held_tokens - tokens)
        return None

    def _free(self) -> int:
        return self._held - self._taken()

    def _taken(self) -> int:
        """What ended calls came to, and what running ones have reserved."""
        return sum([r.amount_nano_usd + r.reserve_nano_usd for r in self.records]) + sum(self._reserved.values())

    def _room(self) -> int | None:
        """What `max_cost` leaves, None where the caller set none."""
        if self._budget.max_cost is None:
            return None
        return self._budget.max_cost - self._taken()

    def _most(self, spec: CallSpec, covered: int) -> int:
        """What to dispatch with: the caller's maximum, or less where `max_cost` could never cover it, or nothing could be
        cut from what comes beyond the cover."""
        if spec.whole:
            return covered
        room = self._room()
        if room is None:
            return spec.max_tokens
        return min(spec.max_tokens, covered + cover.affordable(self.tariff, spec, room))

    def _identity(self, spec: CallSpec) -> CallIdentity:
        principal, completion = self._budget.principal, self.prepared.completion
        return CallIdentity(
            record_id=new_id("use"),
            request_id=completion.request_id,
            rid=spec.rid,
            hold_id=self._hold_id,
            organization=principal.organization,
            project=principal.project,
            key=principal.key,
            mode=self.prepared.resolved,  # a StrEnum is its word: `.value` costs two calls
            phase=spec.phase,
            agent=spec.agent,
            model=completion.model,
            tariff=self.tariff,
            created=now_us(),
            priced_prompt=spec.priced_prompt,
            policy_cached=spec.policy_cached,
            internal=spec.internal,
            idempotency_hash=self._budget.idempotency_hash,
            prompt_bound=spec.prompt_bound,
        )

    async def _closed(self, meter: CallMeter, record: UsageRecord | None) -> None:
        """One call is over. Its record waits in memory, its counts in its slot, until the request's end says what of it is
        given back; a process that is killed before is recovered from the slot."""
        held = self._reserved.pop(meter.spec.rid, 0)
        self._meters.pop(meter.spec.rid, None)
        if record is not None:
            self.records.append(with_reserve(record, held))
            self._closed_meters[meter.spec.rid] = meter

    # -- the client's side ------------------------------------------------------------------------------------------

    async def deliver(self, batch: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        """Count what is about to leave, and cut it where the hold ends. To be called before the bytes are written."""
        touched: CallMeter | None = None
        for index, event in enumerate(batch):
            if not isinstance(event, _COUNTED):
                continue
            meter = self._meters.get(event.rid)
            if meter is None:
                self._count_late(event)
                continue
            if touched is not None and touched is not meter:
                touched.flush()
            touched = meter
            n = event.n
            at_most = n if n != UNKNOWN else meter.unknown(text_size(event))
            if at_most >= meter.extend_at and not await self._extend(meter, at_most):
                touched.flush()
                self.exhausted = True
                return batch[:index]
            if n == UNKNOWN:
                continue
            if isinstance(event, Reasoning):
                meter.reasoning = n - meter.output
            else:
                meter.output = n - meter.reasoning
        if touched is not None:
            touched.flush()
        return batch

    def _count_late(self, event: Output | Reasoning | ToolCall) -> None:
        """Text that waited in the engine while its call was closed: only a request that is abandoned has to know of it."""
        if (meter := self._closed_meters.get(event.rid)) is not None and event.n != UNKNOWN:
            meter.deliver_late(event.n, is_reasoning=isinstance(event, Reasoning))

    async def _extend(self, meter: CallMeter, n: int) -> bool:
        """Cover the next step of a call. False: `n` tokens are more than the hold covers."""
        while meter.covered < meter.max_tokens and n >= meter.extend_at:
            wanted = min(STEP_TOKENS, meter.max_tokens - meter.covered)
            covered = await self._next_step(meter.spec, wanted)
            if covered == 0:
                break
            meter.cover(meter.covered + covered)
        return n <= meter.covered

    async def _next_step(self, spec: CallSpec, tokens: int) -> int:
        tariff = self.tariff
        while tokens > 0:
            need = cover.tokens_cost(tariff, spec, tokens)
            refused = await self._ensure(need, tokens)
            if refused is None:
                self._reserved[spec.rid] = self._reserved.get(spec.rid, 0) + need
                return tokens
            tokens = min(tokens - 1, self._still(spec, refused, 0))
        return 0

    async def end(self) -> None:
        """Settle where it was not done yet, also when the request around is cancelled."""
        if not self.ended:
            await uninterrupted(self.settle(), SETTLE_S)

    async def settle(self) -> None:
        """Make the records durable, end the hold by what they say, free the slots. Idempotent; may be tried again.

        Where the journal fails the hold is ended all the same and the slots stay: the next process recovers them.
        """
        if self.ended:
            return
        records = self.records
        if self.failed:
            records = [given_back(record) for record in records]
        elif self.abandoned:
            whole = not self.prepared.completion.stream
            records = [as_abandoned(r, self._closed_meters[r.rid], nothing_left=whole) for r in records]
        self.records = records
        try:
            if len(records) == 1:
                await self._journal.append(records[0])
            elif records:
                await asyncio.gather(*(self._journal.append(record) for record in records))  # one sync for all
        finally:
            if records:
                await self._limiter.settle(self._hold_id, used_of(records, self._held))
            else:
                await self._limiter.release(self._hold_id)
        for slot in self._slots:
            slot.free()
        self.ended = True


class Grant(Struct, frozen=True):
    """What an admission gave. `share` bounds each choice's first step where there was not enough for all."""

    ask: Ask
    admitted: Admitted
    share: int | None


class Admission:
    """Admits requests. One per process."""

    def __init__(self, limiter: Limiter, journal: Journal) -> None:
        self._limiter = limiter
        self._journal = journal

    async def grant(self, prepared: Prepared, budget: Budget, recount: Recount) -> RequestAllowance:
        """Take limits and the first phase's money in one step. Raises `Denied`.

        `recount` prepares again with the exact count of the prompt; it is asked only where the bound was refused and the
        exact count might fit. The caller ends the allowance, whatever happens.
        """
        prepared, grant = await self._grant(prepared, budget, recount)
        return RequestAllowance(self._limiter, self._journal, prepared, budget, grant)

    async def _grant(self, prepared: Prepared, budget: Budget, recount: Recount) -> tuple[Prepared, Grant]:
        ask, share = first_ask(prepared, budget), None
        answer = await self._limiter.admit(ask)
        if isinstance(answer, Refused) and answer.state.left > 0 and answer.state.metric in _COUNT_MATTERS:
            prepared = await recount()
            ask = first_ask(prepared, budget)
            answer = await self._limiter.admit(ask)
            while isinstance(answer, Refused) and (smaller := _smaller(ask, prepared, budget, answer)) is not None:
                ask, share = smaller, smaller.output_tokens // prepared.completion.n
                answer = await self._limiter.admit(smaller)
        if isinstance(answer, Refused):
            raise Denied(answer, ask.subject, await self._limiter.states(ask.subject))
        return prepared, Grant(ask, answer, share)


def first_ask(prepared: Prepared, budget: Budget) -> Ask:
    """The worst case of the first phase; of a stream's tokens only the first step."""
    first, completion = prepared.first, prepared.completion
    reasoning, output = first.reasoning, first.output
    if prepared.resolved is Mode.THINKING or (prepared.resolved is Mode.INSTANT and completion.stream):
        step = STEP_TOKENS * completion.n
        reasoning, output = (min(reasoning, step), 0) if reasoning else (0, min(output, step))
    return _ask(prepared, budget, reasoning, output)


def _smaller(ask: Ask, prepared: Prepared, budget: Budget, refused: Refused) -> Ask | None:
    """The same request with as many tokens in its first step as there is room for; None where a choice would get none."""
    first, tariff, left = prepared.first, budget.tariff, refused.state.left
    if refused.state.metric == "output_tokens":
        if refused.retry_after_s is not None:
            return None  # a whole answer in a moment is worth more than a piece of one now
        room = refused.state.limit
    elif refused.state.metric in ("credit", "spend"):
        prompt = cover.counts_cost(tariff, first.input, first.cached_input, 0, 0)
        room = (left - prompt) * MTOK // max(1, tariff.reasoning, tariff.output)
    else:
        return None
    tokens = min(ask.output_tokens - 1, room)
    if tokens < prepared.completion.n or prepared.resolved is Mode.CONTEMPLATING:
        return None
    return _ask(prepared, budget, 0, tokens)


def _ask(prepared: Prepared, budget: Budget, reasoning: int, output: int) -> Ask:
    principal, first = budget.principal, prepared.first
    amount = cover.counts_cost(budget.tariff, first.input, first.cached_input, reasoning, output)
    return Ask(
        # One hold a request, so they share the ULID; a second ask of one request follows a refusal, which debited nothing.
        hold_id="hold_" + prepared.completion.request_id.removeprefix("req_"),
        subject=Subject(principal.organization, principal.project, principal.key, prepared.resolved),
        input_tokens=first.input + first.cached_input,
        output_tokens=reasoning + output,
        amount=amount if budget.max_cost is None else min(amount, budget.max_cost),
    )
