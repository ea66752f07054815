"""What `POST /v1/chat/completions` answers: the shapes that the document describes and the tests decode. `encode` writes
their bytes by splicing, without building them."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from museway_engine.completion import Mode
from museway_engine.events import AgentState, FinishReason
from museway_engine.rid import Phase
from museway_platform.wire.chat.usage import AgentUse, AutoChoice, Museway, ThinkingUse, Usage


class _Answer(Struct, frozen=True):
    pass


class TopLogprob(_Answer, frozen=True, kw_only=True):
    """One alternative of a token. `bytes` is its UTF-8, null where it has none of its own."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(_Answer, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Logprobs(_Answer, frozen=True, kw_only=True):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None = None


class FunctionCall(_Answer, frozen=True, kw_only=True):
    """`arguments` is JSON text as the model wrote it; it may be invalid."""

    name: str
    arguments: str


class ToolCall(_Answer, frozen=True, kw_only=True):
    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(_Answer, frozen=True, kw_only=True):
    """`content` is null where the model only called tools. `reasoning_content` is the visible chain of `thinking`."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Choice(_Answer, frozen=True, kw_only=True):
    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatCompletion(_Answer, frozen=True, kw_only=True):
    """An answer as one JSON object. `usage` is null where a count is still being reconciled."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage | None
    museway: Museway


class FunctionDelta(_Answer, frozen=True, kw_only=True):
    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(_Answer, frozen=True, kw_only=True):
    """The first piece of an index has `id`, `type` and `name`; the rest append to `arguments`."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class Delta(_Answer, frozen=True, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(_Answer, frozen=True, kw_only=True):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class AgentProgress(_Answer, tag_field="type", tag="agent", frozen=True, kw_only=True):
    """Counts, never hidden text. `agree` of `finished` agents share the leading answer."""

    index: int
    phase: Phase
    state: AgentState
    tokens: int
    agree: int
    finished: int


class PhaseProgress(_Answer, tag_field="type", tag="phase", frozen=True, kw_only=True):
    """A phase begins, from this many drafts."""

    phase: Phase
    round: int
    drafts: int


class ChosenProgress(_Answer, tag_field="type", tag="chosen", frozen=True, kw_only=True):
    """What `auto` chose, and by which rule."""

    mode: Mode
    rule: str


Progress = AgentProgress | PhaseProgress | ChosenProgress


class ChunkMuseway(_Answer, frozen=True, kw_only=True):
    """On a progress chunk only `progress`; on the last chunk all that `Museway` has."""

    progress: Progress | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    price_version: int | UnsetType = UNSET
    cost_nano_usd: int | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    client_prompt_tokens: int | UnsetType = UNSET
    thinking: ThinkingUse | UnsetType = UNSET
    agents: list[AgentUse] | UnsetType = UNSET
    auto: AutoChoice | UnsetType = UNSET


class ChatCompletionChunk(_Answer, frozen=True, kw_only=True):
    """One event of a stream. `usage` stands on every chunk where `stream_options.include_usage` asked for it, null but on
    the last. `museway` stands on that last chunk, on the last finish chunk where no usage was asked for, and on progress."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    museway: ChunkMuseway | UnsetType = UNSET
