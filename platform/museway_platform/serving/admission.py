"""Limits and money as one hold, and the allowance that the engine draws on until it is settled or released."""

from __future__ import annotations

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
from museway_platform.limits.limiter import Admitted, Ask, Limiter, Refused, Subject, Used
from museway_platform.serving import cover
from museway_platform.serving.lifetimes import uninterrupted
from museway_platform.serving.metering import CallMeter
from museway_platform.serving.refusals import Denied

Recount = Callable[[], Awaitable[Prepared]]

_COUNT_MATTERS = ("credit", "spend", "input_tokens")
_COUNTED = (Output, Reasoning, ToolCall)

SETTLE_S = 5.0
"""How long a settlement may take when its request is already gone."""

STEP_TOKENS = 256
"""A streaming call's hold covers this many tokens at a time, and is extended at half."""


class Budget(Struct, frozen=True, kw_only=True):
    """What bounds one request besides the limiter. Amounts in nano-USD."""

    principal: Principal
    tariff: Tariff
    max_cost: int | None


def now_us() -> int:
    return time.time_ns() // 1000


class RequestAllowance:
    """One request's hold, and the meters of its calls (`museway_engine.allowance.Allowance`)."""

    def __init__(
        self, limiter: Limiter, journal: Journal, prepared: Prepared, budget: Budget, ask: Ask, admitted: Admitted
    ) -> None:
        self._limiter = limiter
        self._journal = journal
        self.prepared = prepared
        self.tariff = budget.tariff
        self.admitted = admitted
        self._budget = budget
        self._hold_id = ask.hold_id
        self._held = ask.amount
        self._held_tokens = ask.output_tokens
        self._meters: dict[str, CallMeter] = {}
        self._reserved: dict[str, int] = {}
        self._slots: list[Slot] = []
        self.ended = False
        self._durable = 0
        self.records: list[UsageRecord] = []
        self.exhausted = False
        """A refused extension ended the answer (`budget_exhausted`)."""

    # -- the engine's side ------------------------------------------------------------------------------------------

    async def open(self, spec: CallSpec) -> CallMeter:
        """Reserve the prompt and a first step; the slot is taken first (JournalFull refuses before any money moves)."""
        tariff = self.tariff
        wanted = spec.max_tokens if spec.internal else min(spec.max_tokens, STEP_TOKENS)
        slot = self._journal.open_slot(self._identity(spec))
        try:
            covered = await self._reserve(spec, cover.prompt_cost(tariff, spec), wanted)
        except BaseException:
            slot.free()
            raise
        meter = CallMeter(
            spec,
            slot,
            max_tokens=self._most(spec, covered),
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
        return self._spent() + sum(self._reserved.values()) + worst <= self._budget.max_cost

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
            if refused.state.kind == "rate":
                raise AllowanceRefused from Denied(refused)
            left = refused.state.left + self._free()
            tokens = min(tokens - 1, cover.affordable(tariff, spec, left - prompt))
            if tokens <= 0:
                raise AllowanceRefused from Denied(refused)
        raise AllowanceRefused

    async def _ensure(self, need: int, tokens: int) -> Refused | None:
        """Make the hold large enough for `need` more; None where it is."""
        short = need - self._free()
        more_tokens = max(0, tokens - self._held_tokens)
        if short <= 0:
            self._held_tokens = max(0, self._held_tokens - tokens)
            return None
        answer = await self._limiter.extend(self._hold_id, amount=short, output_tokens=more_tokens)
        if isinstance(answer, Refused):
            return answer
        self._held += short
        self._held_tokens = max(0, self._held_tokens - tokens)
        return None

    def _free(self) -> int:
        return self._held - self._spent() - sum(self._reserved.values())

    def _spent(self) -> int:
        return sum(record.amount_nano_usd for record in self.records)

    def _room(self) -> int | None:
        """What `max_cost` leaves, None where the caller set none."""
        if self._budget.max_cost is None:
            return None
        return self._budget.max_cost - self._spent() - sum(self._reserved.values())

    def _most(self, spec: CallSpec, covered: int) -> int:
        """What to dispatch with: the caller's maximum, or less where `max_cost` could never cover it."""
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
            mode=self.prepared.resolved.value,
            phase=spec.phase.value,
            agent=spec.agent,
            model=completion.model,
            tariff=self.tariff,
            created=now_us(),
            priced_prompt=spec.priced_prompt,
            policy_cached=spec.policy_cached,
            internal=spec.internal,
        )

    async def _closed(self, meter: CallMeter, record: UsageRecord | None) -> None:
        """One call is over: its reservation ends, its record is queued, then awaited until it is durable."""
        self._reserved.pop(meter.spec.rid, None)
        self._meters.pop(meter.spec.rid, None)
        if record is not None:
            self.records.append(record)
            await self._journal.append(record)
            self._durable += 1

    # -- the client's side ------------------------------------------------------------------------------------------

    async def deliver(self, batch: Sequence[AnyEvent]) -> Sequence[AnyEvent]:
        """Count what is about to leave, and cut it where the hold ends. To be called before the bytes are written."""
        touched: CallMeter | None = None
        for index, event in enumerate(batch):
            if not isinstance(event, _COUNTED):
                continue
            meter = self._meters.get(event.rid)
            if meter is None:
                continue
            if touched is not None and touched is not meter:
                touched.flush()
            touched = meter
            n = event.n
            if n == UNKNOWN:
                meter.unknown()
                continue
            if n >= meter.extend_at and not await self._extend(meter, n):
                touched.flush()
                self.exhausted = True
                return batch[:index]
            if isinstance(event, Reasoning):
                meter.reasoning = n - meter.output
            else:
                meter.output = n - meter.reasoning
        if touched is not None:
            touched.flush()
        return batch

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
            if refused.state.kind == "rate":
                return 0
            tokens = min(tokens - 1, cover.affordable(tariff, spec, refused.state.left + self._free()))
        return 0

    async def end(self) -> None:
        """Settle where it was not done yet, also when the request around is cancelled."""
        if not self.ended:
            await uninterrupted(self.settle(), SETTLE_S)

    async def settle(self) -> None:
        """End the hold by what the records say, then free the slots. Idempotent."""
        if self.ended:
            return
        self.ended = True
        if self._durable < len(self.records):
            for record in self.records:  # somebody was cancelled while it waited; asking again writes nothing twice
                await self._journal.append(record)
        if self.records:
            await self._limiter.settle(self._hold_id, _used(self.records))
        else:
            await self._limiter.release(self._hold_id)
        for slot in self._slots:
            slot.free()


def _used(records: Sequence[UsageRecord]) -> Used:
    input_ = cached = output = amount = 0
    for record in records:
        input_ += record.input or 0
        cached += record.cached_input or 0
        output += (record.reasoning or 0) + (record.output or 0)
        amount += record.amount_nano_usd - record.credited_nano_usd
    return Used(input_tokens=input_, cached_tokens=cached, output_tokens=output, amount=amount)


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
        prepared, ask, admitted = await self._grant(prepared, budget, recount)
        return RequestAllowance(self._limiter, self._journal, prepared, budget, ask, admitted)

    async def _grant(self, prepared: Prepared, budget: Budget, recount: Recount) -> tuple[Prepared, Ask, Admitted]:
        ask = first_ask(prepared, budget)
        answer = await self._limiter.admit(ask)
        if isinstance(answer, Refused) and answer.state.left > 0 and answer.state.metric in _COUNT_MATTERS:
            prepared = await recount()
            ask = first_ask(prepared, budget)
            answer = await self._limiter.admit(ask)
            if isinstance(answer, Refused) and answer.state.kind != "rate":
                smaller = _smaller(ask, prepared, budget, answer.state.left)
                if smaller is not None:
                    ask, answer = smaller, await self._limiter.admit(smaller)
        if isinstance(answer, Refused):
            raise Denied(answer)
        return prepared, ask, answer


def first_ask(prepared: Prepared, budget: Budget) -> Ask:
    """The worst case of the first phase; of a stream's tokens only the first step."""
    first = prepared.first
    reasoning, output = first.reasoning, first.output
    if prepared.resolved is not Mode.CONTEMPLATING:
        step = STEP_TOKENS * prepared.completion.n
        reasoning, output = (min(reasoning, step), 0) if reasoning else (0, min(output, step))
    return _ask(prepared, budget, reasoning, output)


def _smaller(ask: Ask, prepared: Prepared, budget: Budget, left: int) -> Ask | None:
    """The same request with as many tokens in its first step as `left` covers; None where it covers none."""
    first, tariff = prepared.first, budget.tariff
    prompt = cover.counts_cost(tariff, first.input, first.cached_input, 0, 0)
    tokens = min(ask.output_tokens - 1, (left - prompt) * MTOK // max(1, tariff.reasoning, tariff.output))
    if tokens < 1 or prepared.resolved is Mode.CONTEMPLATING:
        return None
    return _ask(prepared, budget, 0, tokens)


def _ask(prepared: Prepared, budget: Budget, reasoning: int, output: int) -> Ask:
    principal, first = budget.principal, prepared.first
    amount = cover.counts_cost(budget.tariff, first.input, first.cached_input, reasoning, output)
    return Ask(
        # One hold a request, so they share the ULID; a second ask of one request follows a refusal, which debited nothing.
        hold_id="hold_" + prepared.completion.request_id.removeprefix("req_"),
        subject=Subject(principal.organization, principal.project, principal.key, prepared.resolved.value),
        input_tokens=first.input + first.cached_input,
        output_tokens=reasoning + output,
        amount=amount if budget.max_cost is None else min(amount, budget.max_cost),
    )
