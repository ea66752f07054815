"""`GET /v1/models`, `GET /v1/models/{model}`: what is served, its modes, context and the caller's prices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get
from msgspec import UNSET

from museway_billing.usage import Tariff
from museway_engine.completion import Mode
from museway_engine.run import ModelInfo
from museway_platform.api.errors import model_not_found
from museway_platform.api.exchange import Asked, json_response
from museway_platform.api.parts import Parts
from museway_platform.api.shapes import Model, ModelList, Prices

PRICED = (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING)


@get("/v1/models")
async def list_models(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    models = [_model(asked.parts, name, asked.principal.organization) for name in asked.parts.names]
    return json_response(ModelList(data=[model for model in models if model is not None]))


@get("/v1/models/{model:str}")
async def get_model(request: Request[Any, Any, Any], model: str) -> Response[bytes]:
    asked = await Asked.of(request)
    found = _model(asked.parts, model, asked.principal.organization)
    if found is None:
        raise model_not_found(model)
    return json_response(found)


def _model(parts: Parts, name: str, organization: str) -> Model | None:
    if name not in parts.names:
        return None
    served, mode = parts.names[name]
    info = next((info for info in parts.engine.models() if info.id == served), None)
    return None if info is None else _view(parts, info, name, mode, organization)


def _view(parts: Parts, info: ModelInfo, name: str, mode: Mode | None, organization: str) -> Model:
    now = datetime.now(UTC)
    book = parts.serving.book
    tariffs = {m: book.tariff(organization, info.id, m.value, now) for m in PRICED if m in info.modes}
    return Model(
        id=name,
        created=info.created,
        context=info.context,
        modes=list(info.modes) if mode is None else [mode],
        prices={m: _prices(tariff) for m, tariff in tariffs.items()},
        price_version=max((tariff.version for tariff in tariffs.values()), default=0),
        alias_of=UNSET if name == info.id else info.id,
        mode=UNSET if mode is None else mode,
    )


def _prices(tariff: Tariff) -> Prices:
    return Prices(
        input=tariff.input, cached_input=tariff.cached_input, reasoning=tariff.reasoning, output=tariff.output
    )
