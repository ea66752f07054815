"""What the routes beside inference share: who asks, the request's id, JSON out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from litestar import Request, Response
from msgspec import Struct

from museway_platform.api import shapes
from museway_platform.api.parts import Holder, Parts
from museway_platform.identity.principal import Principal

HOLDER = "holder"
REQUEST_ID = "request_id"


class Asked(Struct, frozen=True):
    """An authenticated request to one of these routes."""

    parts: Parts
    principal: Principal
    request_id: str

    @classmethod
    async def of(cls, request: Request[Any, Any, Any]) -> Self:
        """Raises ApiError 401, DirectoryUnavailable."""
        parts = parts_of(request)
        principal = await parts.authentication.principal(request.scope)
        return cls(parts, principal, request_id_of(request))


def parts_of(request: Request[Any, Any, Any]) -> Parts:
    holder: Holder = request.app.state[HOLDER]
    return holder.parts


def request_id_of(request: Request[Any, Any, Any]) -> str:
    request_id: str = request.scope["state"][REQUEST_ID]
    return request_id


def json_response(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(shapes.encode(body), status_code=status, media_type="application/json", headers=dict(headers or {}))
