"""What one request used and costs, once every call of it is in the journal."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from museway_billing.usage import UsageRecord
from museway_engine.completion import Mode
from museway_engine.events import Chosen, Done
from museway_engine.run import Prepared


class AgentRow(Struct, frozen=True, kw_only=True):
    """One agent in one phase. Tokens as billed; `cost` in nano-USD after credits."""

    index: int
    phase: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    cost: int


class Bill(Struct, frozen=True, kw_only=True):
    """Tokens as billed, summed over the request's calls. `cost` is nano-USD after credits given at once."""

    request_id: str
    mode: Mode
    price_version: int
    cost: int
    stop_reason: str
    client_prompt_tokens: int
    input: int
    cached_input: int
    reasoning: int
    output: int
    budget: int | None
    used: int | None
    rounds: int
    agents: tuple[AgentRow, ...]
    chosen: Chosen | None


def make_bill(
    prepared: Prepared,
    records: Sequence[UsageRecord],
    *,
    version: int,
    done: Done | None,
    exhausted: bool,
    chosen: Chosen | None,
) -> Bill:
    """The bill of a request that ended; `done` is None where it was broken off, `exhausted` where its hold ended first.

    Unknown counts are left out of the sums: they are shown as being reconciled.
    """
    agents = prepared.resolved is Mode.CONTEMPLATING
    done = done or Done(stop_reason="complete")
    input_ = cached_input = reasoning = output = cost = 0
    for record in records:
        input_ += record.input or 0
        cached_input += record.cached_input or 0
        reasoning += record.reasoning or 0
        output += record.output or 0
        cost += record.amount_nano_usd - record.credited_nano_usd
    return Bill(
        request_id=prepared.completion.request_id,
        mode=prepared.resolved,
        price_version=version,
        cost=cost,
        stop_reason="budget_exhausted" if exhausted else done.stop_reason,
        client_prompt_tokens=_client_prompt(prepared, records),
        input=input_,
        cached_input=cached_input,
        reasoning=reasoning,
        output=output,
        budget=done.budget,
        used=done.used,
        rounds=done.rounds,
        agents=tuple(_row(record) for record in records) if agents else (),
        chosen=chosen,
    )


def _client_prompt(prepared: Prepared, records: Sequence[UsageRecord]) -> int:
    """The client's own prompt: in one-chain modes what the first call is charged for, else what was tokenized."""
    if prepared.resolved is not Mode.CONTEMPLATING:
        return max(((r.input or 0) + (r.cached_input or 0) for r in records), default=0)
    return prepared.prompt_bound


def _row(record: UsageRecord) -> AgentRow:
    return AgentRow(
        index=record.agent,
        phase=record.phase,
        prompt_tokens=(record.input or 0) + (record.cached_input or 0),
        cached_tokens=record.cached_input or 0,
        completion_tokens=(record.reasoning or 0) + (record.output or 0),
        finish_reason=record.state.value,
        cost=record.amount_nano_usd - record.credited_nano_usd,
    )
