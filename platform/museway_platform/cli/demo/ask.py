"""One question through the SDK, streamed, and what it measured."""

from __future__ import annotations

import time
from typing import assert_never

from msgspec import Struct

from museway import (
    AgentProgress,
    AsyncMuseway,
    Event,
    Finished,
    ModeChosen,
    Options,
    OutputDelta,
    PhaseStarted,
    ReasoningDelta,
    Reply,
    ToolCallDelta,
    UsageReport,
)
from museway_platform.cli.demo.answering import Answering
from museway_platform.cli.demo.questions import Question
from museway_platform.cli.prompt import Failure


class Asked(Struct, frozen=True, kw_only=True):
    """One answer in numbers. `input` excludes `cached_input`. `first_token_s`: from the request to the first visible
    token; `tokens_per_s`: reasoning and output over the whole time, agents' tokens included."""

    mode: str
    ran: str
    agents: int
    input: int
    cached_input: int
    reasoning: int
    output: int
    cost_nano_usd: int
    first_token_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        return (self.reasoning + self.output) / self.total_s


async def ask(client: AsyncMuseway, question: Question, shown: Answering) -> Asked:
    """Ask, show what comes as it comes. Raises MusewayError, and Failure where the answer came without its bill."""
    began, first = time.monotonic(), 0.0
    async with client.stream(question.text, **_options(question)) as events:
        async for event in events:
            if not first and isinstance(event, OutputDelta | ReasoningDelta):
                first = time.monotonic()
            _show(event, shown)
    ended = time.monotonic()
    return _measured(question, events.reply, first_token_s=(first or ended) - began, total_s=ended - began)


def _options(question: Question) -> Options:
    options = Options(mode=question.mode.value, max_tokens=question.max_tokens, temperature=0.0)
    if question.agents is not None:
        options["agents"] = question.agents
        options["temperature"] = 0.4  # agents that all say the same need no vote
    if question.agent_max_tokens is not None:
        options["agent_max_tokens"] = question.agent_max_tokens
    return options


def _show(event: Event, shown: Answering) -> None:
    match event:
        case ReasoningDelta():
            shown.reasoning(event.text)
        case OutputDelta():
            shown.output(event.text)
        case AgentProgress():
            shown.agent(event)
        case PhaseStarted():
            shown.phase(event)
        case ModeChosen():
            shown.chosen(event)
        case ToolCallDelta() | UsageReport() | Finished():
            pass
        case _:
            assert_never(event)


def _measured(question: Question, reply: Reply, *, first_token_s: float, total_s: float) -> Asked:
    usage, cost = reply.usage, reply.cost
    if usage is None or cost is None:
        raise Failure(f"{question.mode.value}: the answer {reply.request_id} came without its bill")
    cached = usage.prompt_tokens_details.cached_tokens
    reasoning = usage.completion_tokens_details.reasoning_tokens
    return Asked(
        mode=question.mode.value,
        ran=reply.mode or question.mode.value,
        agents=len({agent.index for agent in reply.agents}) or 1,
        input=usage.prompt_tokens - cached,
        cached_input=cached,
        reasoning=reasoning,
        output=usage.completion_tokens - reasoning,
        cost_nano_usd=cost.nano_usd,
        first_token_s=first_token_s,
        total_s=total_s,
    )
