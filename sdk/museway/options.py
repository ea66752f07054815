"""The arguments of `generate` and `stream`, once for both clients, and the request that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict, cast

from museway import types

Prompt = str | Sequence[types.Message | Mapping[str, Any]]
"""A user's text, or a conversation: messages as types or as plain dictionaries."""

DEFAULT_MODEL: Final = "muse"
"""What a server serves unless it is told otherwise."""


class CallOptions(TypedDict, total=False):
    """How any call is made: how long the server may be silent, and an Idempotency-Key of your own."""

    timeout_s: float
    idempotency_key: str


class Options(CallOptions, total=False):
    """What a request may say beside its prompt. What is left out is the server's default.

    `mode`: instant, thinking, contemplating or auto. `effort` sets the budget of reasoning inside the mode, and asks for
    thinking where no mode is named. `max_tokens` bounds reasoning and answer together. `agents`, `rounds`,
    `agent_max_tokens`, `economy` and `compose` are contemplating's. The answer never costs more than `max_cost_nano_usd`
    (1e-9 USD) and begins before `deadline_ms`. `cache_key` keeps requests that share a prefix on one worker.
    """

    model: str
    system: str
    mode: types.Mode
    effort: types.Effort
    max_tokens: int
    agents: int
    rounds: int
    agent_max_tokens: int
    economy: bool
    compose: str
    max_cost_nano_usd: int
    deadline_ms: int
    tools: Sequence[types.FunctionTool | Mapping[str, Any]]
    tool_choice: str | types.NamedToolChoice | Mapping[str, Any]
    parallel_tool_calls: bool
    response_format: types.TextFormat | types.JsonObjectFormat | types.JsonSchemaFormat | Mapping[str, Any]
    stop: str | Sequence[str]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int
    logit_bias: Mapping[str, float]
    regex: str
    ebnf: str
    cache_key: str
    user: str
    metadata: Mapping[str, str]


_ABOUT_THE_CALL: Final = frozenset(CallOptions.__annotations__)
_CONTEMPLATING: Final = ("agents", "rounds", "agent_max_tokens", "economy", "compose")
_RENAMED: Final = {"effort": "reasoning_effort", "max_tokens": "max_completion_tokens", "cache_key": "prompt_cache_key"}


def chat_request(prompt: Prompt, options: Options, *, model: str, stream: bool = False) -> types.ChatRequest:
    """Values are sent as they are: the server checks them and names what it refuses. `model` is for want of an option.

    Raises TypeError for an option that does not exist.
    """
    given: dict[str, Any] = {
        name: value for name, value in options.items() if value is not None and name not in _ABOUT_THE_CALL
    }
    unknown = given.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {min(unknown)!r}")
    contemplating = {name: given.pop(name) for name in _CONTEMPLATING if name in given}
    fields = {_RENAMED.get(name, name): value for name, value in given.items()}
    messages: list[object] = [types.UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt)
    system = fields.pop("system", None)
    if system is not None:
        messages.insert(0, types.SystemMessage(content=system))
    if contemplating:
        fields["contemplating"] = types.ContemplatingOptions(**contemplating)
    if stream:
        fields |= {"stream": True, "stream_options": types.StreamOptions(include_usage=True), "museway_progress": True}
    return types.ChatRequest(model=fields.pop("model", model), messages=cast("list[types.Message]", messages), **fields)
