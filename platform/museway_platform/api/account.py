"""`/v1/balance`, `/v1/limits`, `/v1/receipts/{request_id}`, the receipt keys, `/v1/quote`, `/v1/tokenize`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, get, post

from museway_billing.receipts import store as receipts
from museway_platform.api.connection import read_body_in_time
from museway_platform.api.errors import not_found
from museway_platform.api.exchange import Asked, json_response, parts_of
from museway_platform.api.query import read_query
from museway_platform.api.shapes import (
    BalanceView,
    CostRange,
    LimitList,
    LimitView,
    ReceiptPending,
    Refusal,
    RefusalList,
    RefusalQuery,
    Tokenized,
)
from museway_platform.limits.limiter import LimitState, Subject
from museway_platform.limits.refused.store import refused_requests
from museway_platform.serving.quote import quote
from museway_platform.wire.chat.decode import ChatCall, decode_chat

BODY_LIMIT = 8 << 20
PENDING_RETRY_S = 1


@get("/v1/balance")
async def get_balance(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    organization = asked.principal.organization
    balance = await asked.parts.limiter.balance(organization)
    return json_response(
        BalanceView(
            organization=organization,
            available_nano_usd=balance.available,
            held_nano_usd=balance.held,
            posted_nano_usd=balance.posted,
            undrained_nano_usd=balance.undrained,
            as_of=datetime.now(UTC),
        )
    )


@get("/v1/limits")
async def list_limits(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    who = asked.principal
    states = await asked.parts.limiter.states(Subject(who.organization, who.project, who.key, ""))
    return json_response(LimitList(data=[_limit(state) for state in states]))


@get("/v1/limits/refusals")
async def list_refusals(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    query = read_query(request, RefusalQuery)
    async with asked.parts.pool.acquire() as connection:
        found = await refused_requests(
            connection, asked.principal.organization, key=query.key, before=query.before, limit=query.limit
        )
    data = [msgspec.convert(one, Refusal, from_attributes=True) for one in found]
    return json_response(RefusalList(data=data, has_more=len(found) == query.limit))


def _limit(state: LimitState) -> LimitView:
    return LimitView(
        scope=state.scope,
        scope_id=state.scope_id,
        metric=state.metric,
        mode=state.mode,
        kind=state.kind,
        limit=state.limit,
        used=state.used,
        held=state.held,
        left=state.left,
        resets_at=None if state.resets_at is None else datetime.fromtimestamp(state.resets_at, UTC),
        window_s=state.window_s,
    )


@get("/v1/receipts/{request_id:str}")
async def get_receipt(request: Request[Any, Any, Any], request_id: str) -> Response[bytes]:
    """202 while a record of the request is on its way to the ledger; another organization's receipt does not exist."""
    asked = await Asked.of(request)
    parts, organization = asked.parts, asked.principal.organization
    if await parts.journal.unsettled(request_id):
        return json_response(
            ReceiptPending(request_id=request_id), status=202, headers={"retry-after": str(PENDING_RETRY_S)}
        )
    async with parts.pool.acquire() as connection:
        signed = await receipts.receipt_of(connection, request_id, organization=organization, signer=parts.signer)
    if signed is None:
        raise not_found(f"Receipt {request_id[:40]!r}")
    return json_response(signed)


@get("/.well-known/museway-receipts.json")
async def get_receipt_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
    return json_response(parts_of(request).signer.key_set())


@post("/v1/quote", status_code=200)
async def create_quote(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    call = await _decoded(request, asked)
    quotes = await quote(asked.parts.serving, asked.principal, call.completion)
    return json_response({q.mode: CostRange(least=q.least, likely=q.likely, worst=q.worst) for q in quotes})


@post("/v1/tokenize", status_code=200)
async def tokenize(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    call = await _decoded(request, asked)
    ids = await asked.parts.engine.tokenize(call.completion)
    return json_response(Tokenized(model=call.completion.model, count=len(ids), tokens=ids))


async def _decoded(request: Request[Any, Any, Any], asked: Asked) -> ChatCall:
    body = await read_body_in_time(request.scope, request.receive, BODY_LIMIT)
    return decode_chat(body, request_id=asked.request_id, names=asked.parts.names)
