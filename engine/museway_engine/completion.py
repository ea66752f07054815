"""The one domain request that stands between three protocols and N modes.

A protocol's decoder makes it (`museway_platform.wire`), a mode answers it (`museway_engine.modes`). It has no money and no
HTTP in it, and nothing of a protocol's spelling. What a caller may not set on a worker has no field here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Raw, Struct


class Mode(StrEnum):
    INSTANT = "instant"
    THINKING = "thinking"
    CONTEMPLATING = "contemplating"
    AUTO = "auto"


class Effort(StrEnum):
    """How much reasoning a caller asks for; a profile turns it into a budget in tokens."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class CalledTool(Struct, frozen=True):
    """A tool call that an earlier assistant message made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, kw_only=True):
    """One turn. Text parts are joined by the decoder; `content` is None only where an assistant called tools."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[CalledTool, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None


class Tool(Struct, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is a JSON Schema as the caller sent it."""

    name: str
    description: str | None = None
    parameters: Raw | None = None
    strict: bool = False


class ToolChoice(Struct, frozen=True):
    """`name` is set exactly when `kind` is `named`."""

    kind: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    """`schema` and `name` are set exactly when `kind` is `json_schema`."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: Raw | None = None
    strict: bool = False


class Sampling(Struct, frozen=True, kw_only=True):
    """None is "the model's own default", never 0. Names are SGLang's."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    stop: tuple[str, ...] = ()
    regex: str | None = None
    ebnf: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None


class Contemplating(Struct, frozen=True, kw_only=True):
    """What a caller may choose of Contemplating. None is "the profile's default"."""

    agents: int | None = None
    rounds: int | None = None
    agent_max_tokens: int | None = None
    economy: bool = False
    compose: Literal["write", "select"] = "write"


class Completion(Struct, frozen=True, kw_only=True):
    """One request for an answer, validated. Sizes are in tokens, times in milliseconds.

    `mode` is what the caller named (by field or alias), None if nothing was named; `modes.choose` decides.
    `max_tokens` bounds reasoning + visible output together (DESIGN §5). `affinity` is the caller's cache key.
    """

    request_id: str
    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    response_format: ResponseFormat = ResponseFormat()
    sampling: Sampling = Sampling()
    n: int = 1
    max_tokens: int | None = None
    mode: Mode | None = None
    effort: Effort | None = None
    contemplating: Contemplating = Contemplating()
    deadline_ms: int | None = None
    affinity: str | None = None
