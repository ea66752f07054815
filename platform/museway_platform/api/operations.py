"""Every route of the public API as data: what goes in, what comes out, which refusals, which headers.

A route stands here when it is built; `openapi` makes the document of it, and the SDK is generated from the document.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from museway_platform.api import shapes
from museway_platform.wire.chat.answers import ChatCompletion, ChatCompletionChunk
from museway_platform.wire.chat.shapes import ChatRequest

Method = Literal["get", "post"]


class Parameter(Struct, frozen=True, kw_only=True):
    """`schema` is JSON Schema; a list in a query repeats its name."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: dict[str, Any]
    required: bool = False


class Answer(Struct, frozen=True, kw_only=True):
    """One status. `shape` is a type that msgspec can describe; `stream` the shape of each event, where it may stream."""

    status: int
    description: str
    shape: Any
    stream: Any = None
    headers: tuple[str, ...] = ()


class Operation(Struct, frozen=True, kw_only=True):
    """`refusals` are codes of `errors.TABLE`; those that any route can give are added by the document."""

    id: str
    method: Method
    path: str
    summary: str
    description: str = ""
    tag: str
    body: Any = None
    parameters: tuple[Parameter, ...] = ()
    answers: tuple[Answer, ...]
    refusals: tuple[str, ...] = ()
    secured: bool = True


LIMIT_HEADERS: Final = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "ratelimit",
    "ratelimit-policy",
)

BODY_REFUSALS: Final = (
    "invalid_json",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "unknown_parameter",
    "unsupported_parameter",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
)
CHAT_REFUSALS: Final = (
    *BODY_REFUSALS,
    "mode_conflict",
    "invalid_request",
    "context_length_exceeded",
    "model_not_found",
)
RUN_REFUSALS: Final = (
    "max_cost_too_low",
    "insufficient_credit",
    "cap_reached",
    "rate_limit_exceeded",
    "engine_lost",
    "engine_unavailable",
    "engine_overloaded",
    "engine_timeout",
    "deadline_exceeded",
    "journal_full",
    "journal_unavailable",
    "shutting_down",
)
ENGINE_REFUSALS: Final = ("engine_unavailable", "engine_overloaded", "engine_timeout", "engine_lost")

IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    where="header",
    description=(
        "The same key in the same project is the same request: it is answered once and billed once. While it runs, a retry "
        "reads along from the first event; afterwards it is given the kept answer, with `Idempotent-Replayed: true`."
    ),
    schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
)
LAST_EVENT_ID: Final = Parameter(
    name="Last-Event-ID",
    where="header",
    description="With the same `Idempotency-Key`: go on after this event of a stream that broke off.",
    schema={"type": "string", "pattern": "^req_[0-9A-Z]+:[0-9]+$"},
)
KEY_REFUSALS: Final = (
    "stream_restarted",
    "request_in_progress",
    "answer_not_kept",
    "request_cancelled",
    "idempotency_key_reused",
)


def _string(name: str, where: Literal["path", "query"], description: str, **schema: Any) -> Parameter:
    kind: dict[str, Any] = {"type": "string", **schema}
    return Parameter(name=name, where=where, description=description, schema=kind, required=where == "path")


def _strings(name: str, description: str, values: list[str] | None = None) -> Parameter:
    items: dict[str, Any] = {"type": "string"} if values is None else {"type": "string", "enum": values}
    return Parameter(name=name, where="query", description=description, schema={"type": "array", "items": items})


def _integer(name: str, description: str, *, required: bool = False, **schema: Any) -> Parameter:
    kind: dict[str, Any] = {"type": "integer", **schema}
    return Parameter(name=name, where="query", description=description, schema=kind, required=required)


def _usage_query(groups: list[str]) -> tuple[Parameter, ...]:
    return (
        _integer("start_time", "From here, seconds since the epoch.", required=True, minimum=0),
        _integer("end_time", "Up to here, not included; absent is now.", minimum=0),
        _string("bucket_width", "query", "The length of a bucket.", enum=["1h", "1d"], default="1d"),
        _strings("group_by", "Dimensions to tell apart; absent is one sum a bucket.", groups),
        _strings("project_ids", "Only these projects."),
        _strings("api_key_ids", "Only these keys."),
        _strings("models", "Only these models."),
        _strings("modes", "Only these modes.", ["instant", "thinking", "contemplating"]),
        _integer("limit", "Buckets a page.", minimum=1, maximum=744, default=31),
        _string("page", "query", "`next_page` of the page before."),
    )


_DIMENSIONS: Final = ["project_id", "api_key_id", "model", "mode"]

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        id="create_chat_completion",
        method="post",
        path="/v1/chat/completions",
        summary="Answer a conversation",
        description=(
            "OpenAI's chat completions, with modes. With `stream: true` the answer is server-sent events: one chunk a "
            "`data:` line, comments in between, `data: [DONE]` at the end; an error after the first chunk is an event "
            "with `error`, then `[DONE]`. With an Idempotency-Key each event has an `id`, with which a stream that broke off "
            "is resumed; a request whose client is gone then runs on for a grace (15 s unless set otherwise)."
        ),
        tag="inference",
        body=ChatRequest,
        parameters=(IDEMPOTENCY_KEY, LAST_EVENT_ID),
        answers=(
            Answer(
                status=200,
                description="The answer; with `stream: true` as events.",
                shape=ChatCompletion,
                stream=ChatCompletionChunk,
                headers=("x-museway-cost-nano-usd", "idempotent-replayed", *LIMIT_HEADERS),
            ),
        ),
        refusals=(*CHAT_REFUSALS, *RUN_REFUSALS, *KEY_REFUSALS),
    ),
    Operation(
        id="cancel_request",
        method="post",
        path="/v1/requests/{request_id}/cancel",
        summary="Cancel a running request",
        description="Only of a request with an Idempotency-Key: one without ends with its connection.",
        tag="inference",
        parameters=(_string("request_id", "path", "A running request's id, `x-request-id` of its answer."),),
        answers=(Answer(status=200, description="It was aborted.", shape=shapes.CancelledRequest),),
        refusals=("not_found",),
    ),
    Operation(
        id="create_quote",
        method="post",
        path="/v1/quote",
        summary="Price a request before it is made",
        description="Takes the body of a chat completion; nothing is run and nothing is billed. Nano-USD per mode.",
        tag="inference",
        body=ChatRequest,
        answers=(Answer(status=200, description="Least, likely and worst, by mode.", shape=shapes.QuoteAnswer),),
        refusals=(*CHAT_REFUSALS, *ENGINE_REFUSALS),
    ),
    Operation(
        id="tokenize",
        method="post",
        path="/v1/tokenize",
        summary="Count the tokens of a prompt",
        description="Takes the body of a chat completion and counts its prompt as it would be billed.",
        tag="inference",
        body=ChatRequest,
        answers=(Answer(status=200, description="The tokens of the prompt.", shape=shapes.Tokenized),),
        refusals=(*CHAT_REFUSALS, *ENGINE_REFUSALS),
    ),
    Operation(
        id="list_models",
        method="get",
        path="/v1/models",
        summary="List models and their aliases",
        tag="models",
        answers=(Answer(status=200, description="Modes, context and the caller's prices.", shape=shapes.ModelList),),
    ),
    Operation(
        id="get_model",
        method="get",
        path="/v1/models/{model}",
        summary="Describe one model",
        tag="models",
        parameters=(_string("model", "path", "A model's id or an alias."),),
        answers=(Answer(status=200, description="Modes, context and the caller's prices.", shape=shapes.Model),),
        refusals=("model_not_found",),
    ),
    Operation(
        id="get_balance",
        method="get",
        path="/v1/balance",
        summary="Read the organization's balance",
        tag="account",
        answers=(Answer(status=200, description="True now.", shape=shapes.BalanceView),),
    ),
    Operation(
        id="list_limits",
        method="get",
        path="/v1/limits",
        summary="List every limit that applies to the key",
        tag="account",
        answers=(Answer(status=200, description="Rates, caps and credit.", shape=shapes.LimitList),),
    ),
    Operation(
        id="list_refusals",
        method="get",
        path="/v1/limits/refusals",
        summary="Say why requests were limited",
        description=(
            "Refusals by a rate limit, a cap or the credit, with the counters of that moment and who held most. Kept for "
            "30 days; within a second or two of the refusal."
        ),
        tag="account",
        parameters=(
            _string("key", "query", "Only of this key, by id."),
            _string("before", "query", "Only older ones: the `created` of the last one seen.", format="date-time"),
            _integer("limit", "Refusals a page.", minimum=1, maximum=100, default=20),
        ),
        answers=(Answer(status=200, description="The newest first.", shape=shapes.RefusalList),),
        refusals=("invalid_type", "invalid_value", "unknown_parameter"),
    ),
    Operation(
        id="get_usage",
        method="get",
        path="/v1/usage",
        summary="Sum usage over time",
        tag="account",
        parameters=_usage_query(_DIMENSIONS),
        answers=(Answer(status=200, description="A page of buckets.", shape=shapes.UsagePage),),
        refusals=("invalid_type", "invalid_value", "missing_required_parameter", "unknown_parameter"),
    ),
    Operation(
        id="get_costs",
        method="get",
        path="/v1/costs",
        summary="Sum costs over time",
        tag="account",
        parameters=_usage_query([*_DIMENSIONS, "line_item"]),
        answers=(Answer(status=200, description="A page of buckets.", shape=shapes.CostPage),),
        refusals=("invalid_type", "invalid_value", "missing_required_parameter", "unknown_parameter"),
    ),
    Operation(
        id="get_receipt",
        method="get",
        path="/v1/receipts/{request_id}",
        summary="Fetch the signed receipt of one request",
        tag="account",
        parameters=(_string("request_id", "path", "`museway.request_id` of the answer."),),
        answers=(
            Answer(status=200, description="What it cost, line by line, signed.", shape=shapes.SignedReceipt),
            Answer(
                status=202,
                description="The records are on their way; ask again after `retry-after`.",
                shape=shapes.ReceiptPending,
                headers=("retry-after",),
            ),
        ),
        refusals=("not_found",),
    ),
    Operation(
        id="get_receipt_keys",
        method="get",
        path="/.well-known/museway-receipts.json",
        summary="The public keys that receipts are verified with",
        description="A JWK set (RFC 8037); retired keys stay in it.",
        tag="account",
        answers=(Answer(status=200, description="The keys.", shape=shapes.ReceiptKeys),),
        secured=False,
    ),
    Operation(
        id="get_health",
        method="get",
        path="/healthz",
        summary="Whether the process lives",
        tag="operation",
        answers=(Answer(status=200, description="It lives.", shape=shapes.Health),),
        secured=False,
    ),
    Operation(
        id="get_readiness",
        method="get",
        path="/readyz",
        summary="Whether requests can be served, and what is missing",
        tag="operation",
        answers=(
            Answer(status=200, description="All parts are ready.", shape=shapes.Readiness),
            Answer(status=503, description="Names what is missing.", shape=shapes.Readiness),
        ),
        secured=False,
    ),
)
