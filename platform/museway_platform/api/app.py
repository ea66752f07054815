"""The Litestar application: routes, request ids, one way from an exception to a documented error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from museway_platform.api import account, health, models, requests, usage
from museway_platform.api.errors import (
    ApiError,
    encode_error,
    method_not_allowed,
    not_available,
    not_found,
    to_api_error,
)
from museway_platform.api.exchange import HOLDER, REQUEST_ID
from museway_platform.api.observe import log
from museway_platform.api.parts import Holder
from museway_platform.identity.ids import new_id

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]

PLANNED = (
    "/v1/responses",
    "/v1/messages",
    "/v1/conversations",
    "/v1/batches",
    "/v1/files",
    "/v1/admin",
    "/oauth",
)
"""Routes of the contract that are not built yet: they answer 404 `not_available` and are absent from the document."""

HOT_PATH = "/v1/chat/completions"

ROUTES: Sequence[HTTPRouteHandler] = (
    models.list_models,
    models.get_model,
    account.get_balance,
    account.list_limits,
    account.list_refusals,
    account.get_receipt,
    account.get_receipt_keys,
    account.create_quote,
    account.tokenize,
    requests.cancel_request,
    usage.get_usage,
    usage.get_costs,
    health.get_health,
    health.get_readiness,
    health.get_metrics,
    health.get_document,
)


def create(holder: Holder, chat: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    """The application. `chat` answers the hot path; `lifespan` fills `holder` and keeps the parts open.

    The hot path is one comparison ahead of Litestar: its routing and middleware would be a third of what a request costs.
    """
    everything = _litestar(holder, lifespan)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] == HOT_PATH:
            await chat(scope, receive, send)
        else:
            await everything(scope, receive, send)

    return application


def _litestar(holder: Holder, lifespan: Lifespan) -> Litestar:
    return Litestar(
        route_handlers=ROUTES,
        lifespan=[lifespan],
        middleware=[_request_ids],
        exception_handlers={Exception: _on_error},
        openapi_config=None,
        state=State({HOLDER: holder}),
        logging_config=None,
    )


def _request_ids(app: ASGIApp) -> ASGIApp:
    """Give each request an id, and put it on the answer."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id = new_id("req")
        scope["state"][REQUEST_ID] = request_id

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await app(scope, receive, tagged)

    return middleware


def _on_error(request: Request[Any, Any, Any], exc: Exception) -> Response[bytes]:
    request_id = request.scope["state"].get(REQUEST_ID) or new_id("req")
    error = _from_framework(request, exc) if isinstance(exc, HTTPException) else to_api_error(exc)
    if error.status >= 500:
        log.error("%s", error.code, extra={"request_id": request_id}, exc_info=exc)
    return Response(
        encode_error(error, request_id), status_code=error.status, media_type="application/json", headers=error.headers
    )


def _from_framework(request: Request[Any, Any, Any], exc: HTTPException) -> ApiError:
    path = request.scope["path"]
    if isinstance(exc, MethodNotAllowedException):
        allowed = (exc.headers or {}).get("allow") or (exc.headers or {}).get("Allow") or "other methods"
        return method_not_allowed(*allowed.split(", "))
    if isinstance(exc, NotFoundException):
        planned = next((p for p in PLANNED if path == p or path.startswith(p + "/")), None)
        return not_found(f"The route {path[:80]!r}") if planned is None else not_available(planned)
    if exc.status_code < 500:
        return ApiError("invalid_request", "The request could not be understood.")
    return to_api_error(exc)
