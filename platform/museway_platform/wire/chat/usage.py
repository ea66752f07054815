"""What an answer says it used and cost: OpenAI's `usage`, and `museway` (DESIGN §5). Tokens as billed, money in nano-USD."""

from __future__ import annotations

from typing import Self

from msgspec import UNSET, Struct, UnsetType

from museway_engine.completion import Mode


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True, kw_only=True):
    reasoning_tokens: int


class Usage(Struct, frozen=True, kw_only=True):
    """OpenAI's usage object. `prompt_tokens` includes the cached ones, `completion_tokens` the reasoning ones."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails

    @classmethod
    def of(cls, *, input_tokens: int, cached_tokens: int, reasoning_tokens: int, output_tokens: int) -> Self:
        """From the four token classes as billed: `input_tokens` excludes `cached_tokens`, output excludes reasoning."""
        prompt = input_tokens + cached_tokens
        completion = reasoning_tokens + output_tokens
        return cls(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=reasoning_tokens),
        )


class ThinkingUse(Struct, frozen=True, kw_only=True):
    """The chain's budget and what it took of it, in tokens."""

    budget: int
    used: int


class AgentUse(Struct, frozen=True, kw_only=True):
    """One agent in one phase. `prompt_tokens` includes `cached_tokens`."""

    index: int
    phase: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    cost_nano_usd: int


class AutoChoice(Struct, frozen=True, kw_only=True):
    """What `auto` chose, and the rule that chose it."""

    mode: Mode
    rule: str


class Museway(Struct, frozen=True, kw_only=True):
    """What OpenAI's objects have no place for. `mode` is the one that ran.

    `stop_reason` says why the answer ended: `complete`, `length`, `tool_call`, `deadline`, `agreement`, …, and
    `budget_exhausted` where credit, a cap or `max_cost_nano_usd` ended it. `client_prompt_tokens` is the client's own
    prompt, where `prompt_tokens` sums what every call was charged for. `thinking`, `agents` and `auto` stand only where
    the mode has them.
    """

    request_id: str
    mode: Mode
    price_version: int
    cost_nano_usd: int
    stop_reason: str
    client_prompt_tokens: int
    thinking: ThinkingUse | UnsetType = UNSET
    agents: tuple[AgentUse, ...] | UnsetType = UNSET
    auto: AutoChoice | UnsetType = UNSET
