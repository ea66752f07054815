"""One answer, or `n` of them side by side: the same code for all modes that answer choice by choice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from msgspec.structs import replace

from museway_engine.events import Done, StopReason
from museway_engine.lifetimes import Crew
from museway_engine.modes.channel import Channel
from museway_engine.modes.mode import Batch, Batches

Answering = Callable[[int, AsyncExitStack], Batches]
"""Makes the batches of one choice, the last of which ends with its `Finish` and `Done`. Calls are entered on the stack:
it belongs to the mode's context, so they end with that, not when a generator is collected."""

_LEAST_COMPLETE_FIRST: Final[tuple[StopReason, ...]] = ("deadline", "length", "tool_call", "budget", "eos", "complete")


@asynccontextmanager
async def answers(n: int, answering: Answering) -> AsyncGenerator[Batches]:
    if n == 1:
        async with AsyncExitStack() as stack:
            yield answering(0, stack)
        return
    channel = Channel()
    async with Crew() as crew:
        dones: list[Done] = []
        for choice in range(n):
            crew.start(_one_of_many(choice, n, answering, channel, dones))
        yield channel


async def _one_of_many(choice: int, n: int, answering: Answering, channel: Channel, dones: list[Done]) -> None:
    try:
        async with AsyncExitStack() as stack:
            async for batch in answering(choice, stack):
                await channel.put(_without_done(batch, dones))
    except Exception as error:  # noqa: BLE001  (whatever it is: who reads the channel would wait for ever)
        channel.fail(error)
        return
    if len(dones) == n:
        channel.put_nowait([_joined(dones)])
        channel.close()


def _without_done(batch: Batch, dones: list[Done]) -> Batch:
    last = batch[-1]
    if not isinstance(last, Done):
        return batch
    dones.append(last)
    return batch[:-1]


def _joined(dones: list[Done]) -> Done:
    """One end for all choices: the least complete one's reason, the longest chain."""
    reasons = {done.stop_reason for done in dones}
    reason = next((r for r in _LEAST_COMPLETE_FIRST if r in reasons), dones[0].stop_reason)
    used = [done.used for done in dones if done.used is not None]
    return replace(dones[0], stop_reason=reason, used=max(used) if used else None)
