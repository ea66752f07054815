"""JSON of the routes beside inference: what a developer reads of models, usage, money, limits and receipts.

Amounts are integers of nano-USD, counts are tokens, times are RFC 3339 in UTC unless a field is named as OpenAI's, which
are seconds since the epoch. Encode with `encode`.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from museway_engine.completion import Mode
from museway_platform.limits.limiter import Kind, Metric, Scope

encode: Final = msgspec.json.Encoder(decimal_format="number").encode
"""Writes a shape of this page; OpenAI's `amount.value` becomes a JSON number without ever being a float."""

Moment = Annotated[datetime, Meta(tz=True)]


class Prices(Struct, frozen=True, kw_only=True):
    """Nano-USD per million tokens of one mode, by class."""

    input: int
    cached_input: int
    reasoning: int
    output: int


class Model(Struct, frozen=True, kw_only=True):
    """OpenAI's model object, and what it can do here. An alias has `mode` and the `alias_of` that it stands for.

    `prices` are the caller's own, by mode, of `price_version`.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "museway"
    context: int
    modes: list[Mode]
    prices: dict[Mode, Prices]
    price_version: int
    alias_of: str | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET


class ModelList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


class UsageResult(Struct, frozen=True, kw_only=True):
    """Sums of one group. `input_tokens` includes `input_cached_tokens`, `output_tokens` includes `reasoning_tokens`.

    A dimension is null where it was not asked for by `group_by`. Calls whose count is still being reconciled are in no
    sum.
    """

    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"
    input_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    num_model_requests: int
    amount_nano_usd: int
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    mode: Mode | None = None
    batch: bool | None = None


class UsageBucket(Struct, frozen=True, kw_only=True):
    """From `start_time` up to, not including, `end_time`."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(Struct, frozen=True, kw_only=True):
    """`next_page` goes into `page` of the next request; null on the last."""

    object: Literal["page"] = "page"
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class CostAmount(Struct, frozen=True, kw_only=True):
    """OpenAI's amount, in dollars; `amount_nano_usd` beside it is the exact one."""

    value: Decimal
    currency: Literal["usd"] = "usd"


class CostResult(Struct, frozen=True, kw_only=True):
    """What one group came to. `line_item` is a token class where `group_by` asked for it, `quantity` its tokens."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: CostAmount
    amount_nano_usd: int
    line_item: str | None = None
    project_id: str | None = None
    api_key_id: str | None = None
    mode: Mode | None = None
    quantity: int | None = None
    quantity_unit: Literal["tokens"] | None = None


class CostBucket(Struct, frozen=True, kw_only=True):
    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CostResult]


class CostPage(Struct, frozen=True, kw_only=True):
    object: Literal["page"] = "page"
    data: list[CostBucket]
    has_more: bool
    next_page: str | None


class BalanceView(Struct, frozen=True, kw_only=True):
    """True now: `available` = posted - undrained - held. The ledger follows within a second."""

    organization: str
    available_nano_usd: int
    held_nano_usd: int
    posted_nano_usd: int
    undrained_nano_usd: int
    as_of: Moment


class LimitView(Struct, frozen=True, kw_only=True):
    """One limit that applies to the caller. Money in nano-USD, else counts. `mode` is null where it is for all modes."""

    scope: Scope
    scope_id: str
    metric: Metric
    mode: str | None
    kind: Kind
    limit: int
    used: int
    held: int
    left: int
    resets_at: Moment | None
    window_s: int | None = None


class LimitList(Struct, frozen=True, kw_only=True):
    data: list[LimitView]


class RefusalHolder(Struct, frozen=True, kw_only=True):
    """What one key held of the limit's scope when it refused."""

    key: str
    requests: int
    amount_nano_usd: int
    output_tokens: int


class Refusal(Struct, frozen=True, kw_only=True):
    """A request that a limit, a cap or the credit refused, as it was then. `times`: how many of the same kind within a
    second it stands for. `holders`: who held most of the scope. Money in nano-USD, else counts."""

    request_id: str
    created: Moment
    code: str
    project: str
    key: str
    mode: str
    scope: Scope
    scope_id: str
    metric: Metric
    limit_mode: str | None
    limit: int
    used: int
    held: int
    asked: int
    retry_after_s: float | None
    holders: list[RefusalHolder]
    times: int


class RefusalList(Struct, frozen=True, kw_only=True):
    """The newest first. `has_more`: ask again with `before` the last one's `created`."""

    data: list[Refusal]
    has_more: bool


class RefusalQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of `/v1/limits/refusals`. `before` is RFC 3339."""

    key: str | None = None
    before: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ReceiptLine(Struct, frozen=True, kw_only=True):
    """tokens x price, rounded down once."""

    rid: str
    phase: str
    agent: int
    class_: str = msgspec.field(name="class")
    tokens: int
    price_nano_usd_per_mtok: int
    amount_nano_usd: int


class ReceiptBody(Struct, frozen=True, kw_only=True):
    """What is signed. `supersedes` is the signature of an earlier receipt of this request, null on the first."""

    v: Literal[1]
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


class SignedReceipt(Struct, frozen=True, kw_only=True):
    """Ed25519 over the RFC 8785 canonical JSON of `receipt`; keys under `/.well-known/museway-receipts.json`."""

    receipt: ReceiptBody
    kid: str
    signature: str


class ReceiptKey(Struct, frozen=True, kw_only=True):
    """An Ed25519 public key as RFC 8037 writes it; `x` is base64url."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str


class ReceiptKeys(Struct, frozen=True, kw_only=True):
    """Every key that ever signed, retired ones too."""

    keys: list[ReceiptKey]


class ReceiptPending(Struct, frozen=True, kw_only=True):
    """The request is known and its records are on their way to the ledger."""

    request_id: str
    status: Literal["pending"] = "pending"


class CostRange(Struct, frozen=True, kw_only=True):
    """Nano-USD. `worst` is the sum of all holds that the request could take."""

    least: int
    likely: int
    worst: int


QuoteAnswer = dict[Mode, CostRange]
"""Per mode that can answer the request; of the named mode alone, where the request names one."""


class Tokenized(Struct, frozen=True, kw_only=True):
    """The client's prompt in the instant rendering: what `prompt_tokens` counts in instant and thinking."""

    model: str
    count: int
    tokens: list[int]


class Health(Struct, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


class Missing(Struct, frozen=True, kw_only=True):
    """One part that is not ready, and why."""

    part: str
    reason: str


class Readiness(Struct, frozen=True, kw_only=True):
    """200 with `ready`, 503 with `not_ready` and what is missing."""

    status: Literal["ready", "not_ready"]
    missing: list[Missing]


UnixSeconds = Annotated[int, Meta(ge=0)]


class UsageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query of `/v1/usage` and `/v1/costs`. Times in seconds since the epoch; lists by repeating the name.

    `limit` is in buckets. Absent `end_time` is now.
    """

    start_time: UnixSeconds
    end_time: UnixSeconds | None = None
    bucket_width: Literal["1h", "1d"] = "1d"
    group_by: list[Literal["project_id", "api_key_id", "model", "mode", "line_item"]] = []
    project_ids: list[str] = []
    api_key_ids: list[str] = []
    models: list[str] = []
    modes: list[Mode] = []
    limit: Annotated[int, Meta(ge=1, le=744)] = 31
    page: str | None = None


class CancelledRequest(Struct, frozen=True, kw_only=True):
    """What was delivered of the request stays billed, the rest is not."""

    request_id: str
    status: Literal["cancelled"] = "cancelled"
