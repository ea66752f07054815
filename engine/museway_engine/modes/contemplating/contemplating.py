"""Contemplating: agents think in parallel over one shared prompt and vote; one answer is composed and streamed.

One agent failing degrades, never fails, the request; where none comes to anything, a plain answer is given.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from museway_engine.allowance import CallSpec
from museway_engine.events import AnyEvent, Done, Finish, PhaseStarted
from museway_engine.lifetimes import Crew
from museway_engine.modes.channel import Channel
from museway_engine.modes.contemplating.deliberation import Deliberation
from museway_engine.modes.contemplating.prompt import Prompts
from museway_engine.modes.contemplating.synthesis import compose, select
from museway_engine.modes.mode import Batches, Turn, finish_reason
from museway_engine.rid import Phase, make_rid


@asynccontextmanager
async def contemplating(turn: Turn) -> AsyncGenerator[Batches]:
    """Raises the engine's errors and AllowanceRefused from the iterator, before the first Output."""
    channel = Channel()
    async with Crew() as crew:
        crew.start(_conduct(turn, channel))
        yield channel


async def _conduct(turn: Turn, channel: Channel) -> None:
    """The whole of it as one task; hands its failure to the channel."""
    try:
        async with Crew() as agents, AsyncExitStack() as stack:
            prepared = turn.prepared
            turn.place(prepared.prompt_bound + prepared.agents * prepared.agent_max_tokens)
            prompt = await turn.prompt_ids()
            prompts = Prompts(turn, prompt)
            deliberation = Deliberation(turn, prompts, agents, channel)
            await deliberation.run()
            done = await _answer(turn, prompts, deliberation, stack, channel)
        channel.put_nowait([done])  # only now is every agent drained and its meter closed
        channel.close()
    except Exception as error:  # noqa: BLE001  (whatever it is: who reads the channel would wait for ever)
        channel.fail(error)


async def _answer(
    turn: Turn, prompts: Prompts, deliberation: Deliberation, stack: AsyncExitStack, channel: Channel
) -> Done:
    if not deliberation.drafts:
        if deliberation.refusal is not None:
            raise deliberation.refusal
        batches = _plain(turn, stack, prompts.shared)
    elif turn.completion.contemplating.compose == "select":
        batches = select(deliberation)
    else:
        batches = compose(turn, prompts, deliberation, stack)
    done: Done | None = None
    async for batch in batches:
        events: list[AnyEvent] = [event for event in batch if not isinstance(event, Done)]
        done = next((event for event in batch if isinstance(event, Done)), done)
        if events:
            await channel.put(events)
    assert done is not None, "an answer ends with Done"
    return done


async def _plain(turn: Turn, stack: AsyncExitStack, shared: int) -> Batches:
    """What is left when no agent came to anything: one instant answer, and the end says `degraded`."""
    spec = CallSpec(
        rid=make_rid(turn.completion.request_id, Phase.ANSWER),
        phase=Phase.ANSWER,
        agent=0,
        prompt_bound=turn.prepared.prompt_bound,
        max_tokens=turn.prepared.max_tokens,
        policy_cached=shared,
    )
    yield [PhaseStarted(Phase.ANSWER)]
    turn.pinned = None  # the agents failed there
    call = turn.chat(spec)
    await stack.enter_async_context(call)
    async for batch in call:
        yield batch
    yield [Finish(0, finish_reason(call.tally)), Done("degraded")]
