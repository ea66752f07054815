"""A bill as the chat protocol shows it."""

from __future__ import annotations

from msgspec import UNSET

from museway_platform.serving.bill import Bill
from museway_platform.wire.chat.usage import AgentUse, AutoChoice, Museway, ThinkingUse, Usage


def usage_of(bill: Bill) -> Usage:
    """The protocol's own usage object: `prompt_tokens` is what is billed as input, cached included."""
    return Usage.of(
        input_tokens=bill.input,
        cached_tokens=bill.cached_input,
        reasoning_tokens=bill.reasoning,
        output_tokens=bill.output,
    )


def museway_of(bill: Bill) -> Museway:
    return Museway(
        request_id=bill.request_id,
        mode=bill.mode,
        price_version=bill.price_version,
        cost_nano_usd=bill.cost,
        stop_reason=bill.stop_reason,
        client_prompt_tokens=bill.client_prompt_tokens,
        thinking=UNSET if bill.budget is None else ThinkingUse(budget=bill.budget, used=bill.used or 0),
        agents=_agents(bill) or UNSET,
        auto=UNSET if bill.chosen is None else AutoChoice(mode=bill.chosen.mode, rule=bill.chosen.rule),
    )


def _agents(bill: Bill) -> tuple[AgentUse, ...]:
    return tuple(
        AgentUse(
            index=row.index,
            phase=row.phase,
            prompt_tokens=row.prompt_tokens,
            cached_tokens=row.cached_tokens,
            completion_tokens=row.completion_tokens,
            finish_reason=row.finish_reason,
            cost_nano_usd=row.cost,
        )
        for row in bill.agents
    )
