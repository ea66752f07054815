"""What a request would cost, before it is made: least, likely and worst per mode, nano-USD."""

from __future__ import annotations

from msgspec import Struct, structs

from museway_engine.completion import Completion, Mode
from museway_engine.errors import InvalidForModel
from museway_platform.identity.principal import Principal
from museway_platform.serving import cover
from museway_platform.serving.serve import Serving

MODES = (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING, Mode.AUTO)


class Quote(Struct, frozen=True, kw_only=True):
    """`worst` is the sum of all holds the request could take."""

    mode: Mode
    least: int
    likely: int
    worst: int


async def quote(serving: Serving, principal: Principal, completion: Completion) -> list[Quote]:
    """One quote per mode that can answer the request; of the named mode alone, where the caller named one.

    Raises InvalidForModel where the named mode cannot answer it.
    """
    prompt = len(await serving.engine.tokenize(completion))
    modes = MODES if completion.mode is None else (completion.mode,)
    quotes: list[Quote] = []
    for mode in modes:
        try:
            prepared = serving.engine.prepare(structs.replace(completion, mode=mode), prompt_tokens=prompt)
        except InvalidForModel:
            if completion.mode is not None:
                raise
            continue
        tariff = serving.tariff(principal.organization, prepared)
        least, likely, worst = (
            cover.bound_cost(tariff, bound) for bound in (prepared.least, prepared.likely, prepared.worst)
        )
        quotes.append(Quote(mode=mode, least=least, likely=likely, worst=worst))
    return quotes
