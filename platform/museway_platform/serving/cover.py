"""The money arithmetic of a hold: what a call's prompt and its next tokens can cost at most. Pure; nano-USD."""

from __future__ import annotations

from museway_billing.money import MTOK, ceiling
from museway_billing.prices import cover
from museway_billing.usage import Tariff
from museway_engine.allowance import CallSpec
from museway_engine.run import Bound


def prompt_cost(tariff: Tariff, spec: CallSpec) -> int:
    """The most that the call's prompt can cost: nothing of it is cached but what policy says."""
    priced = spec.prompt_bound if spec.priced_prompt is None else min(spec.priced_prompt, spec.prompt_bound)
    if spec.policy_cached == 0:
        return ceiling(priced, tariff.input)
    cached = min(spec.policy_cached, priced)
    return cover(tariff, input=priced - cached, cached_input=cached)


def tokens_cost(tariff: Tariff, spec: CallSpec, tokens: int) -> int:
    """What `tokens` of the call cost in the dearest class that they can turn out to be."""
    dearest = tariff.output if tariff.output > tariff.reasoning and not spec.produces_reasoning else tariff.reasoning
    return ceiling(tokens, dearest)


def affordable(tariff: Tariff, spec: CallSpec, money: int) -> int:
    """How many tokens of the call `money` covers, at most its maximum; 0 where it covers none."""
    price = tariff.reasoning if spec.produces_reasoning else max(tariff.reasoning, tariff.output)
    if money < 0:
        return 0
    return spec.max_tokens if price == 0 else min(spec.max_tokens, money * MTOK // price)


def bound_cost(tariff: Tariff, bound: Bound) -> int:
    """What a hold of the whole bound takes; answers may turn out to hold reasoning."""
    return counts_cost(tariff, bound.input, bound.cached_input, bound.reasoning, bound.output)


def counts_cost(tariff: Tariff, input_: int, cached_input: int, reasoning: int, output: int) -> int:
    """`bound_cost` of bare counts. Rounded up once: bills round each line down, so no split of them comes to more."""
    dearest = max(tariff.reasoning, tariff.output)
    prompt = input_ * tariff.input + cached_input * tariff.cached_input
    return -(-(prompt + reasoning * tariff.reasoning + output * dearest) // MTOK)
