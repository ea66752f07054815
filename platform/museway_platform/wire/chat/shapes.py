"""The body of `POST /v1/chat/completions`: OpenAI's spelling and our extras, nothing else (an allow-list, DESIGN §5).

Where a field is nullable at OpenAI, null is the same as absent. Bounds that JSON Schema can say stand here; what needs
two fields at once is `decode`'s.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from museway_engine.completion import Effort, Mode

MOST = 2**31 - 1
"""The most of any count: what every worker can take."""

Text = Annotated[str, Meta(min_length=1)]
Identifier = Annotated[str, Meta(max_length=256)]
FunctionName = Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
JsonSchema = Annotated[Raw, Meta(description="A JSON Schema.", extra_json_schema={"type": "object"})]
OptionalJsonSchema = Annotated[Raw, Meta(description="A JSON Schema.", extra_json_schema={"type": ["object", "null"]})]
"""Raw and None can't stand in one union; absent is an empty Raw."""

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Nothing = Annotated[None, Meta(description="Only null: answers of other providers, sent back, may have it.")]


class _Shape(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class TextPart(_Shape, frozen=True, kw_only=True):
    """One piece of a message's text. Pieces are joined as they are, without a separator."""

    type: Literal["text"]
    text: str


class AssistantTextPart(_Shape, tag_field="type", tag="text", frozen=True, kw_only=True):
    text: str


class RefusalPart(_Shape, tag_field="type", tag="refusal", frozen=True, kw_only=True):
    """What the model refused to do, in an earlier answer; read as its text."""

    refusal: str


TextContent = str | Annotated[list[TextPart], Meta(min_length=1)]


class SystemMessage(_Shape, tag_field="role", tag="system", frozen=True, kw_only=True):
    content: TextContent
    name: Identifier | None = None


class DeveloperMessage(_Shape, tag_field="role", tag="developer", frozen=True, kw_only=True):
    content: TextContent
    name: Identifier | None = None


class UserMessage(_Shape, tag_field="role", tag="user", frozen=True, kw_only=True):
    content: TextContent
    name: Identifier | None = None


class CalledFunction(_Shape, frozen=True, kw_only=True):
    name: Text
    arguments: str


class AssistantToolCall(_Shape, frozen=True, kw_only=True):
    """A tool call of an earlier answer. `index`, which a stream's deltas carry, is ignored."""

    id: Text
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None


class AssistantMessage(_Shape, tag_field="role", tag="assistant", frozen=True, kw_only=True):
    """An earlier answer. `content` may be null only beside `tool_calls` or `refusal`."""

    content: str | Annotated[list[AssistantTextPart | RefusalPart], Meta(min_length=1)] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    name: Identifier | None = None
    tool_calls: list[AssistantToolCall] | None = None
    annotations: Annotated[list[Raw], Meta(max_length=0)] | None = None
    audio: Nothing = None
    function_call: Nothing = None


class ToolMessage(_Shape, tag_field="role", tag="tool", frozen=True, kw_only=True):
    """What a tool answered to the call of this id."""

    content: TextContent
    tool_call_id: Text


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(_Shape, frozen=True, kw_only=True):
    name: FunctionName
    description: str | None = None
    parameters: OptionalJsonSchema = field(default_factory=Raw)
    strict: bool | None = None


class FunctionTool(_Shape, frozen=True, kw_only=True):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(_Shape, frozen=True, kw_only=True):
    name: FunctionName


class NamedToolChoice(_Shape, frozen=True, kw_only=True):
    """The model must call this one function."""

    type: Literal["function"]
    function: NamedFunction


class TextFormat(_Shape, tag_field="type", tag="text", frozen=True, kw_only=True):
    pass


class JsonObjectFormat(_Shape, tag_field="type", tag="json_object", frozen=True, kw_only=True):
    pass


class NamedJsonSchema(_Shape, frozen=True, kw_only=True):
    name: FunctionName
    schema: JsonSchema
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(_Shape, tag_field="type", tag="json_schema", frozen=True, kw_only=True):
    json_schema: NamedJsonSchema


class StreamOptions(_Shape, frozen=True, kw_only=True):
    """`include_obfuscation` may only be false: our chunks are not padded."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ContemplatingOptions(_Shape, frozen=True, kw_only=True):
    """How `contemplating` works. What is absent is the model's default."""

    agents: Annotated[int, Meta(ge=2, le=16)] | None = None
    rounds: Annotated[int, Meta(ge=0, le=3)] | None = None
    agent_max_tokens: Annotated[int, Meta(ge=1, le=MOST)] | None = None
    economy: bool | None = None
    compose: Literal["write", "select"] | None = None


class ChatRequest(_Shape, frozen=True, kw_only=True):
    """A request for an answer. Every field that is not listed is refused by name."""

    model: Annotated[str, Meta(min_length=1, max_length=128, description="A served model or an alias of it.")]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, description="The conversation so far.")]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    n: Annotated[int, Meta(ge=1, le=16, description="How many answers. The prompt is billed once.")] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MOST, description="Older name of max_completion_tokens.")] | None = None
    max_completion_tokens: (
        Annotated[int, Meta(ge=1, le=MOST, description="Bounds reasoning and visible output together.")] | None
    ) = None
    stop: Text | Annotated[list[Text], Meta(max_length=4)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=MOST, description="At least 1, or -1 for the whole vocabulary.")] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="Best effort.")] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    regex: Annotated[str, Meta(min_length=1, description="The answer must match it.")] | None = None
    ebnf: Annotated[str, Meta(min_length=1, description="The answer must follow this grammar.")] | None = None
    reasoning_effort: Effort | None = None
    mode: Mode | None = None
    contemplating: ContemplatingOptions | None = None
    max_cost_nano_usd: Annotated[int, Meta(ge=0, le=2**53, description="The answer never costs more.")] | None = None
    deadline_ms: Annotated[int, Meta(ge=1, le=3_600_000)] | None = None
    museway_progress: Annotated[bool, Meta(description="Progress of agents as chunks without choices.")] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=256, description="Requests of one key share a worker.")] | None = (
        None
    )
    user: Identifier | None = None
    safety_identifier: Annotated[str, Meta(max_length=64)] | None = None
    metadata: Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None
