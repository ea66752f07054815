"""Make a request fit the caller's `max_cost_nano_usd`: the largest plan whose worst case is within it (MODES §8)."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from museway_billing.usage import Tariff
from museway_engine.completion import Completion, Mode
from museway_engine.engine import Engine
from museway_engine.run import Bound, Prepared
from museway_platform.serving import cover
from museway_platform.serving.refusals import OverMaxCost

LEAST_AGENTS = 2
LEAST_AGENT_TOKENS = 16


async def fit_max_cost(engine: Engine, prepared: Prepared, tariff: Tariff, max_cost: int) -> Prepared:
    """`prepared`, or a smaller one of the same mode. Raises OverMaxCost with the least that could answer.

    The prompt is counted exactly by a worker when its bound alone does not fit.
    """
    if cover.bound_cost(tariff, prepared.worst) <= max_cost:
        return prepared
    tokens = len(await engine.tokenize(prepared.completion))
    least = 0
    for smaller in _smaller(prepared, tariff, max_cost, tokens):
        candidate = engine.prepare(smaller, prompt_tokens=tokens)
        least = cover.bound_cost(tariff, candidate.worst)
        if least <= max_cost:
            return candidate
    raise OverMaxCost(least=least, max_cost=max_cost)


def _smaller(prepared: Prepared, tariff: Tariff, max_cost: int, prompt: int) -> Iterator[Completion]:
    """Candidates, largest first: as it was; fewer rounds, agents, tokens an agent; a shorter answer."""
    completion = prepared.completion
    yield completion
    if prepared.resolved is Mode.CONTEMPLATING:
        options = completion.contemplating
        agents, tokens = prepared.agents, prepared.agent_max_tokens
        while agents > LEAST_AGENTS:
            agents -= 1
            yield structs.replace(completion, contemplating=structs.replace(options, rounds=0, agents=agents))
        while tokens > LEAST_AGENT_TOKENS:
            tokens = max(LEAST_AGENT_TOKENS, tokens // 2)
            smallest = structs.replace(options, rounds=0, agents=LEAST_AGENTS, agent_max_tokens=tokens)
            yield structs.replace(completion, contemplating=smallest)
        return
    left = max_cost - cover.bound_cost(tariff, Bound(input=prompt, cached_input=0, reasoning=0, output=0))
    dearest = max(1, tariff.reasoning, tariff.output)
    answer = min(prepared.max_tokens, left * 1_000_000 // dearest // max(1, completion.n))
    yield structs.replace(completion, max_tokens=max(1, answer))
