"""Types of the API, generated from `openapi.json` by `codegen/generate.py`: do not edit."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, field

from museway._shape import Shape


class AgentProgress(Shape, kw_only=True, tag_field="type", tag="agent"):
    """
    Counts, never hidden text. `agree` of `finished` agents share the leading answer.
    """

    index: int
    phase: str
    state: str
    tokens: int
    agree: int
    finished: int


class AgentUse(Shape, kw_only=True):
    """
    One agent in one phase. `prompt_tokens` includes `cached_tokens`.
    """

    index: int
    phase: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    cost_nano_usd: int


class AssistantTextPart(Shape, kw_only=True, tag_field="type", tag="text"):
    text: str


class AutoChoice(Shape, kw_only=True):
    """
    What `auto` chose, and the rule that chose it.
    """

    mode: str
    rule: str


class BalanceView(Shape, kw_only=True):
    """
    True now: `available` = posted - undrained - held. The ledger follows within a second.
    """

    organization: str
    available_nano_usd: int
    held_nano_usd: int
    posted_nano_usd: int
    undrained_nano_usd: int
    as_of: datetime


class CalledFunction(Shape, kw_only=True):
    name: str
    arguments: str


class CancelledRequest(Shape, kw_only=True):
    """
    What was delivered of the request stays billed, the rest is not.
    """

    request_id: str
    status: str


class ChosenProgress(Shape, kw_only=True, tag_field="type", tag="chosen"):
    """
    What `auto` chose, and by which rule.
    """

    mode: str
    rule: str


class CompletionTokensDetails(Shape, kw_only=True):
    reasoning_tokens: int


class ContemplatingOptions(Shape, kw_only=True):
    """
    How `contemplating` works. What is absent is the model's default.
    """

    agents: int | None = None
    rounds: int | None = None
    agent_max_tokens: int | None = None
    economy: bool | None = None
    compose: Literal["select", "write"] | None = None


class CostAmount(Shape, kw_only=True):
    """
    OpenAI's amount, in dollars; `amount_nano_usd` beside it is the exact one.
    """

    value: Decimal
    currency: str


class CostRange(Shape, kw_only=True):
    """
    Nano-USD. `worst` is the sum of all holds that the request could take.
    """

    least: int
    likely: int
    worst: int


class CostResult(Shape, kw_only=True):
    """
    What one group came to. `line_item` is a token class where `group_by` asked for it, `quantity` its tokens.
    """

    object: str
    amount: CostAmount
    amount_nano_usd: int
    line_item: str | None
    project_id: str | None
    api_key_id: str | None
    mode: str | None
    quantity: int | None
    quantity_unit: str | None


Effort: TypeAlias = Annotated[
    Literal["high", "low", "max", "medium", "minimal", "none", "xhigh"],
    Meta(description="How much reasoning a caller asks for; a profile turns it into a budget in tokens."),
]
"""
How much reasoning a caller asks for; a profile turns it into a budget in tokens.
"""


class ErrorDetail(Shape, kw_only=True):
    """
    OpenAI's error object and a link into our documentation.
    """

    message: str
    type: str
    param: str | None
    code: str | None
    doc_url: str | None


class FunctionCall(Shape, kw_only=True):
    """
    `arguments` is JSON text as the model wrote it; it may be invalid.
    """

    name: str
    arguments: str


class FunctionDefinition(Shape, kw_only=True):
    """
    parameters: A JSON Schema.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionDelta(Shape, kw_only=True):
    arguments: str
    name: str | None = None


class FunctionTool(Shape, kw_only=True):
    type: Literal["function"]
    function: FunctionDefinition


class Health(Shape, kw_only=True):
    status: str


class JsonObjectFormat(Shape, kw_only=True, tag_field="type", tag="json_object"):
    pass


class LimitView(Shape, kw_only=True):
    """
    One limit that applies to the caller. Money in nano-USD, else counts. `mode` is null where it is for all modes.
    """

    scope: str
    scope_id: str
    metric: str
    mode: str | None
    kind: str
    limit: int
    used: int
    held: int
    left: int
    resets_at: datetime | None
    window_s: int | None


class Missing(Shape, kw_only=True):
    """
    One part that is not ready, and why.
    """

    part: str
    reason: str


Mode: TypeAlias = Literal["auto", "contemplating", "instant", "thinking"]


class NamedFunction(Shape, kw_only=True):
    name: str


class NamedJsonSchema(Shape, kw_only=True):
    """
    schema: A JSON Schema.
    """

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class NamedToolChoice(Shape, kw_only=True):
    """
    The model must call this one function.
    """

    type: Literal["function"]
    function: NamedFunction


class PhaseProgress(Shape, kw_only=True, tag_field="type", tag="phase"):
    """
    A phase begins, from this many drafts.
    """

    phase: str
    round: int
    drafts: int


class Prices(Shape, kw_only=True):
    """
    Nano-USD per million tokens of one mode, by class.
    """

    input: int
    cached_input: int
    reasoning: int
    output: int


class PromptTokensDetails(Shape, kw_only=True):
    cached_tokens: int


class Readiness(Shape, kw_only=True):
    """
    200 with `ready`, 503 with `not_ready` and what is missing.
    """

    status: str
    missing: list[Missing]


class ReceiptKey(Shape, kw_only=True):
    """
    An Ed25519 public key as RFC 8037 writes it; `x` is base64url.
    """

    kty: str
    crv: str
    kid: str
    x: str


class ReceiptKeys(Shape, kw_only=True):
    """
    Every key that ever signed, retired ones too.
    """

    keys: list[ReceiptKey]


class ReceiptLine(Shape, kw_only=True):
    """
    tokens x price, rounded down once.
    """

    rid: str
    phase: str
    agent: int
    class_: str = field(name="class")
    tokens: int
    price_nano_usd_per_mtok: int
    amount_nano_usd: int


class ReceiptPending(Shape, kw_only=True):
    """
    The request is known and its records are on their way to the ledger.
    """

    request_id: str
    status: str


class RefusalHolder(Shape, kw_only=True):
    """
    What one key held of the limit's scope when it refused.
    """

    key: str
    requests: int
    amount_nano_usd: int
    output_tokens: int


class RefusalPart(Shape, kw_only=True, tag_field="type", tag="refusal"):
    """
    What the model refused to do, in an earlier answer; read as its text.
    """

    refusal: str


class StreamOptions(Shape, kw_only=True):
    """
    `include_obfuscation` may only be false: our chunks are not padded.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(Shape, kw_only=True, tag_field="type", tag="text"):
    pass


class TextPart(Shape, kw_only=True):
    """
    One piece of a message's text. Pieces are joined as they are, without a separator.
    """

    type: Literal["text"]
    text: str


class ThinkingUse(Shape, kw_only=True):
    """
    The chain's budget and what it took of it, in tokens.
    """

    budget: int
    used: int


class Tokenized(Shape, kw_only=True):
    """
    The client's prompt in the instant rendering: what `prompt_tokens` counts in instant and thinking.
    """

    model: str
    count: int
    tokens: list[int]


class ToolCall(Shape, kw_only=True):
    id: str
    type: str
    function: FunctionCall


class ToolCallDelta(Shape, kw_only=True):
    """
    The first piece of an index has `id`, `type` and `name`; the rest append to `arguments`.
    """

    index: int
    function: FunctionDelta
    id: str | None = None
    type: str | None = None


class ToolMessage(Shape, kw_only=True, tag_field="role", tag="tool"):
    """
    What a tool answered to the call of this id.
    """

    content: str | list[TextPart]
    tool_call_id: str


class TopLogprob(Shape, kw_only=True):
    """
    One alternative of a token. `bytes` is its UTF-8, null where it has none of its own.
    """

    token: str
    logprob: float
    bytes: list[int] | None


class Usage(Shape, kw_only=True):
    """
    OpenAI's usage object. `prompt_tokens` includes the cached ones, `completion_tokens` the reasoning ones.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class UsageResult(Shape, kw_only=True):
    """
    Sums of one group. `input_tokens` includes `input_cached_tokens`, `output_tokens` includes `reasoning_tokens`.

    A dimension is null where it was not asked for by `group_by`. Calls whose count is still being reconciled are in no
    sum.
    """

    object: str
    input_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    num_model_requests: int
    amount_nano_usd: int
    project_id: str | None
    api_key_id: str | None
    model: str | None
    mode: str | None
    batch: bool | None


class UserMessage(Shape, kw_only=True, tag_field="role", tag="user"):
    content: str | list[TextPart]
    name: str | None = None


class AnswerMessage(Shape, kw_only=True):
    """
    `content` is null where the model only called tools. `reasoning_content` is the visible chain of `thinking`.
    """

    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


AssistantPart: TypeAlias = AssistantTextPart | RefusalPart


class AssistantToolCall(Shape, kw_only=True):
    """
    A tool call of an earlier answer. `index`, which a stream's deltas carry, is ignored.
    """

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None


class ChunkMuseway(Shape, kw_only=True):
    """
    On a progress chunk only `progress`; on the last chunk all that `Museway` has.
    """

    progress: AgentProgress | PhaseProgress | ChosenProgress | None = None
    request_id: str | None = None
    mode: str | None = None
    price_version: int | None = None
    cost_nano_usd: int | None = None
    stop_reason: str | None = None
    client_prompt_tokens: int | None = None
    thinking: ThinkingUse | None = None
    agents: list[AgentUse] | None = None
    auto: AutoChoice | None = None


class CostBucket(Shape, kw_only=True):
    object: str
    start_time: int
    end_time: int
    results: list[CostResult]


class CostPage(Shape, kw_only=True):
    object: str
    data: list[CostBucket]
    has_more: bool
    next_page: str | None


class Delta(Shape, kw_only=True):
    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class DeveloperMessage(Shape, kw_only=True, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class ErrorBody(Shape, kw_only=True):
    """
    The whole body of a refusal, and the last event of a stream that broke off.
    """

    error: ErrorDetail
    request_id: str


class JsonSchemaFormat(Shape, kw_only=True, tag_field="type", tag="json_schema"):
    json_schema: NamedJsonSchema


class LimitList(Shape, kw_only=True):
    data: list[LimitView]


class Model(Shape, kw_only=True):
    """
    OpenAI's model object, and what it can do here. An alias has `mode` and the `alias_of` that it stands for.

    `prices` are the caller's own, by mode, of `price_version`.
    """

    id: str
    object: str
    created: int
    owned_by: str
    context: int
    modes: list[str]
    prices: dict[str, Prices]
    price_version: int
    alias_of: str | None = None
    mode: str | None = None


class ModelList(Shape, kw_only=True):
    object: str
    data: list[Model]


class Museway(Shape, kw_only=True):
    """
    What OpenAI's objects have no place for. `mode` is the one that ran.

    `stop_reason` says why the answer ended: `complete`, `length`, `tool_call`, `deadline`, `agreement`, …, and
    `budget_exhausted` where credit, a cap or `max_cost_nano_usd` ended it. `client_prompt_tokens` is the client's own
    prompt, where `prompt_tokens` sums what every call was charged for. `thinking`, `agents` and `auto` stand only where
    the mode has them.
    """

    request_id: str
    mode: str
    price_version: int
    cost_nano_usd: int
    stop_reason: str
    client_prompt_tokens: int
    thinking: ThinkingUse | None = None
    agents: list[AgentUse] | None = None
    auto: AutoChoice | None = None


class ReceiptBody(Shape, kw_only=True):
    """
    What is signed. `supersedes` is the signature of an earlier receipt of this request, null on the first.
    """

    v: Any
    request_id: str
    organization: str
    project: str
    key: str
    mode: str
    created: str
    lines: list[ReceiptLine]
    price_version: int
    total_nano_usd: int
    supersedes: str | None


class Refusal(Shape, kw_only=True):
    """
    A request that a limit, a cap or the credit refused, as it was then. `times`: how many of the same kind within a
    second it stands for. `holders`: who held most of the scope. Money in nano-USD, else counts.
    """

    request_id: str
    created: datetime
    code: str
    project: str
    key: str
    mode: str
    scope: str
    scope_id: str
    metric: str
    limit_mode: str | None
    limit: int
    used: int
    held: int
    asked: int
    retry_after_s: float | None
    holders: list[RefusalHolder]
    times: int


class RefusalList(Shape, kw_only=True):
    """
    The newest first. `has_more`: ask again with `before` the last one's `created`.
    """

    data: list[Refusal]
    has_more: bool


class SignedReceipt(Shape, kw_only=True):
    """
    Ed25519 over the RFC 8785 canonical JSON of `receipt`; keys under `/.well-known/museway-receipts.json`.
    """

    receipt: ReceiptBody
    kid: str
    signature: str


class SystemMessage(Shape, kw_only=True, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class TokenLogprob(Shape, kw_only=True):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class UsageBucket(Shape, kw_only=True):
    """
    From `start_time` up to, not including, `end_time`.
    """

    object: str
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(Shape, kw_only=True):
    """
    `next_page` goes into `page` of the next request; null on the last.
    """

    object: str
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class AssistantMessage(Shape, kw_only=True, tag_field="role", tag="assistant"):
    """
    An earlier answer. `content` may be null only beside `tool_calls` or `refusal`.

    audio: Only null: answers of other providers, sent back, may have it.
    function_call: Only null: answers of other providers, sent back, may have it.
    """

    content: str | list[AssistantPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[AssistantToolCall] | None = None
    annotations: list[Any] | None = None
    audio: None | None = None
    function_call: None | None = None


Message: TypeAlias = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class ChatRequest(Shape, kw_only=True):
    """
    A request for an answer. Every field that is not listed is refused by name.

    model: A served model or an alias of it.
    messages: The conversation so far.
    n: How many answers. The prompt is billed once.
    max_tokens: Older name of max_completion_tokens.
    max_completion_tokens: Bounds reasoning and visible output together.
    top_k: At least 1, or -1 for the whole vocabulary.
    seed: Best effort.
    regex: The answer must match it.
    ebnf: The answer must follow this grammar.
    max_cost_nano_usd: The answer never costs more.
    museway_progress: Progress of agents as chunks without choices.
    prompt_cache_key: Requests of one key share a worker.
    """

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    regex: str | None = None
    ebnf: str | None = None
    reasoning_effort: Effort | None = None
    mode: Mode | None = None
    contemplating: ContemplatingOptions | None = None
    max_cost_nano_usd: int | None = None
    deadline_ms: int | None = None
    museway_progress: bool | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None


class Logprobs(Shape, kw_only=True):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class Choice(Shape, kw_only=True):
    index: int
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: str


class ChunkChoice(Shape, kw_only=True):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: str | None


class ChatCompletion(Shape, kw_only=True):
    """
    An answer as one JSON object. `usage` is null where a count is still being reconciled.
    """

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage | None
    museway: Museway


class ChatCompletionChunk(Shape, kw_only=True):
    """
    One event of a stream. `usage` stands on every chunk where `stream_options.include_usage` asked for it, null but on
    the last. `museway` stands on that last chunk, on the last finish chunk where no usage was asked for, and on progress.
    """

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    museway: ChunkMuseway | None = None


__all__ = [
    "AgentProgress",
    "AgentUse",
    "AnswerMessage",
    "AssistantMessage",
    "AssistantPart",
    "AssistantTextPart",
    "AssistantToolCall",
    "AutoChoice",
    "BalanceView",
    "CalledFunction",
    "CancelledRequest",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatRequest",
    "Choice",
    "ChosenProgress",
    "ChunkChoice",
    "ChunkMuseway",
    "CompletionTokensDetails",
    "ContemplatingOptions",
    "CostAmount",
    "CostBucket",
    "CostPage",
    "CostRange",
    "CostResult",
    "Delta",
    "DeveloperMessage",
    "Effort",
    "ErrorBody",
    "ErrorDetail",
    "FunctionCall",
    "FunctionDefinition",
    "FunctionDelta",
    "FunctionTool",
    "Health",
    "JsonObjectFormat",
    "JsonSchemaFormat",
    "LimitList",
    "LimitView",
    "Logprobs",
    "Message",
    "Missing",
    "Mode",
    "Model",
    "ModelList",
    "Museway",
    "NamedFunction",
    "NamedJsonSchema",
    "NamedToolChoice",
    "PhaseProgress",
    "Prices",
    "PromptTokensDetails",
    "Readiness",
    "ReceiptBody",
    "ReceiptKey",
    "ReceiptKeys",
    "ReceiptLine",
    "ReceiptPending",
    "Refusal",
    "RefusalHolder",
    "RefusalList",
    "RefusalPart",
    "SignedReceipt",
    "StreamOptions",
    "SystemMessage",
    "TextFormat",
    "TextPart",
    "ThinkingUse",
    "TokenLogprob",
    "Tokenized",
    "ToolCall",
    "ToolCallDelta",
    "ToolMessage",
    "TopLogprob",
    "Usage",
    "UsageBucket",
    "UsagePage",
    "UsageResult",
    "UserMessage",
]
