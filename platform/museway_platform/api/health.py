"""`/healthz`, `/readyz`, `/metrics`, `/openapi.json`."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import msgspec
from litestar import Request, Response, get

from museway_platform.api.exchange import json_response, parts_of
from museway_platform.api.openapi import document
from museway_platform.api.shapes import Health, Missing, Readiness


@get("/healthz")
async def get_health() -> Response[bytes]:
    return json_response(Health())


@get("/readyz")
async def get_readiness(request: Request[Any, Any, Any]) -> Response[bytes]:
    """503 with the name of each part that is not ready, and why."""
    missing = [Missing(part=part, reason=reason) for part, reason in parts_of(request).missing().items()]
    if missing:
        return json_response(Readiness(status="not_ready", missing=missing), status=503)
    return json_response(Readiness(status="ready", missing=[]))


@get("/metrics")
async def get_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    metrics = parts_of(request).metrics
    text = await asyncio.to_thread(metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@cache
def _document() -> bytes:
    return msgspec.json.encode(document())


@get("/openapi.json")
async def get_document() -> Response[bytes]:
    return Response(_document(), media_type="application/json")
