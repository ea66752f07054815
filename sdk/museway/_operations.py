"""Operations of the API, generated from `openapi.json` by `codegen/generate.py`: do not edit.

Each gives a `Call`: what to send and how to read the answer, without sending anything. `Museway.call` sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from museway import types
from museway._call import Call, encode_path


def create_chat_completion(body: types.ChatRequest) -> Call[types.ChatCompletion]:
    """Answer a conversation.

    OpenAI's chat completions, with modes. With `stream: true` the answer is server-sent events: one chunk a
    `data:` line, comments in between, `data: [DONE]` at the end; an error after the first chunk is an event
    with `error`, then `[DONE]`. With an Idempotency-Key each event has an `id`, with which a stream that broke
    off is resumed; a request whose client is gone then runs on for a grace (15 s unless set otherwise).
    """
    return Call(
        method="POST",
        path="/v1/chat/completions",
        body=body,
        answers={200: types.ChatCompletion},
    )


def cancel_request(request_id: str) -> Call[types.CancelledRequest]:
    """Cancel a running request.

    Only of a request with an Idempotency-Key: one without ends with its connection.

    request_id: A running request's id, `x-request-id` of its answer.
    """
    return Call(
        method="POST",
        path=encode_path("/v1/requests/{request_id}/cancel", request_id=request_id),
        answers={200: types.CancelledRequest},
    )


def create_quote(body: types.ChatRequest) -> Call[dict[str, types.CostRange]]:
    """Price a request before it is made.

    Takes the body of a chat completion; nothing is run and nothing is billed. Nano-USD per mode.
    """
    return Call(
        method="POST",
        path="/v1/quote",
        body=body,
        answers={200: dict[str, types.CostRange]},
    )


def tokenize(body: types.ChatRequest) -> Call[types.Tokenized]:
    """Count the tokens of a prompt.

    Takes the body of a chat completion and counts its prompt as it would be billed.
    """
    return Call(
        method="POST",
        path="/v1/tokenize",
        body=body,
        answers={200: types.Tokenized},
    )


def list_models() -> Call[types.ModelList]:
    """List models and their aliases."""
    return Call(
        method="GET",
        path="/v1/models",
        answers={200: types.ModelList},
    )


def get_model(model: str) -> Call[types.Model]:
    """Describe one model.

    model: A model's id or an alias.
    """
    return Call(
        method="GET",
        path=encode_path("/v1/models/{model}", model=model),
        answers={200: types.Model},
    )


def get_balance() -> Call[types.BalanceView]:
    """Read the organization's balance."""
    return Call(
        method="GET",
        path="/v1/balance",
        answers={200: types.BalanceView},
    )


def list_limits() -> Call[types.LimitList]:
    """List every limit that applies to the key."""
    return Call(
        method="GET",
        path="/v1/limits",
        answers={200: types.LimitList},
    )


def list_refusals(
    *, key: str | None = None, before: str | None = None, limit: int | None = None
) -> Call[types.RefusalList]:
    """Say why requests were limited.

    Refusals by a rate limit, a cap or the credit, with the counters of that moment and who held most. Kept for
    30 days; within a second or two of the refusal.

    key: Only of this key, by id.
    before: Only older ones: the `created` of the last one seen.
    limit: Refusals a page.
    """
    return Call(
        method="GET",
        path="/v1/limits/refusals",
        query={"key": key, "before": before, "limit": limit},
        answers={200: types.RefusalList},
    )


def get_usage(
    *,
    start_time: int,
    end_time: int | None = None,
    bucket_width: Literal["1h", "1d"] | None = None,
    group_by: Sequence[Literal["project_id", "api_key_id", "model", "mode"]] | None = None,
    project_ids: Sequence[str] | None = None,
    api_key_ids: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    modes: Sequence[Literal["instant", "thinking", "contemplating"]] | None = None,
    limit: int | None = None,
    page: str | None = None,
) -> Call[types.UsagePage]:
    """Sum usage over time.

    start_time: From here, seconds since the epoch.
    end_time: Up to here, not included; absent is now.
    bucket_width: The length of a bucket.
    group_by: Dimensions to tell apart; absent is one sum a bucket.
    project_ids: Only these projects.
    api_key_ids: Only these keys.
    models: Only these models.
    modes: Only these modes.
    limit: Buckets a page.
    page: `next_page` of the page before.
    """
    return Call(
        method="GET",
        path="/v1/usage",
        query={
            "start_time": start_time,
            "end_time": end_time,
            "bucket_width": bucket_width,
            "group_by": group_by,
            "project_ids": project_ids,
            "api_key_ids": api_key_ids,
            "models": models,
            "modes": modes,
            "limit": limit,
            "page": page,
        },
        answers={200: types.UsagePage},
    )


def get_costs(
    *,
    start_time: int,
    end_time: int | None = None,
    bucket_width: Literal["1h", "1d"] | None = None,
    group_by: Sequence[Literal["project_id", "api_key_id", "model", "mode", "line_item"]] | None = None,
    project_ids: Sequence[str] | None = None,
    api_key_ids: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    modes: Sequence[Literal["instant", "thinking", "contemplating"]] | None = None,
    limit: int | None = None,
    page: str | None = None,
) -> Call[types.CostPage]:
    """Sum costs over time.

    start_time: From here, seconds since the epoch.
    end_time: Up to here, not included; absent is now.
    bucket_width: The length of a bucket.
    group_by: Dimensions to tell apart; absent is one sum a bucket.
    project_ids: Only these projects.
    api_key_ids: Only these keys.
    models: Only these models.
    modes: Only these modes.
    limit: Buckets a page.
    page: `next_page` of the page before.
    """
    return Call(
        method="GET",
        path="/v1/costs",
        query={
            "start_time": start_time,
            "end_time": end_time,
            "bucket_width": bucket_width,
            "group_by": group_by,
            "project_ids": project_ids,
            "api_key_ids": api_key_ids,
            "models": models,
            "modes": modes,
            "limit": limit,
            "page": page,
        },
        answers={200: types.CostPage},
    )


def get_receipt(request_id: str) -> Call[types.SignedReceipt | types.ReceiptPending]:
    """Fetch the signed receipt of one request.

    request_id: `museway.request_id` of the answer.
    """
    return Call(
        method="GET",
        path=encode_path("/v1/receipts/{request_id}", request_id=request_id),
        answers={200: types.SignedReceipt, 202: types.ReceiptPending},
    )


def get_receipt_keys() -> Call[types.ReceiptKeys]:
    """The public keys that receipts are verified with.

    A JWK set (RFC 8037); retired keys stay in it.
    """
    return Call(
        method="GET",
        path="/.well-known/museway-receipts.json",
        secured=False,
        answers={200: types.ReceiptKeys},
    )


def get_health() -> Call[types.Health]:
    """Whether the process lives."""
    return Call(
        method="GET",
        path="/healthz",
        secured=False,
        answers={200: types.Health},
    )


def get_readiness() -> Call[types.Readiness]:
    """Whether requests can be served, and what is missing."""
    return Call(
        method="GET",
        path="/readyz",
        secured=False,
        answers={200: types.Readiness, 503: types.Readiness},
    )
