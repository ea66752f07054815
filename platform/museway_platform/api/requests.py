"""`/v1/requests/{request_id}/cancel`: a request with an Idempotency-Key runs on without its connection, so it can be ended."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post

from museway_platform.api.errors import not_found
from museway_platform.api.exchange import Asked, json_response
from museway_platform.api.shapes import CancelledRequest


@post("/v1/requests/{request_id:str}/cancel", status_code=200)
async def cancel_request(request: Request[Any, Any, Any], request_id: str) -> Response[bytes]:
    """Abort it at once. One that is over, has no key or is another organization's does not exist here."""
    asked = await Asked.of(request)
    run = asked.parts.runs.of_request(request_id)
    if run is None or run.organization != asked.principal.organization:
        raise not_found(f"The running request {request_id[:40]!r}")
    asked.parts.runs.abandon(run)
    return json_response(CancelledRequest(request_id=request_id))
