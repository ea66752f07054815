"""The composing call: the only one of a deliberation whose text reaches the client."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec
from msgspec.structs import replace

from museway_engine.allowance import CallSpec
from museway_engine.events import Done, Finish, Output, PhaseStarted, StopReason, text
from museway_engine.modes.contemplating.deliberation import Deliberation
from museway_engine.modes.contemplating.draft import Draft
from museway_engine.modes.contemplating.prompt import Prompts
from museway_engine.modes.contemplating.vote import Key, are_equal, canon
from museway_engine.modes.contemplating.words import SYNTHESIS_BYTES, drafts_bound
from museway_engine.modes.mode import Batches, Turn, finish_reason, stop_reason
from museway_engine.rid import Phase, make_rid


async def compose(turn: Turn, prompts: Prompts, after: Deliberation, stack: AsyncExitStack) -> Batches:
    """Write one answer from the winning drafts, or from all where none won. Raises the engine's errors."""
    winners = after.winners
    drafts = fitting(turn, winners or shuffled(turn, after.drafts))
    yield [PhaseStarted(Phase.SYNTHESIS, drafts=len(drafts))]
    ids = await prompts.synthesis(drafts, agreed=bool(winners))
    spec = CallSpec(
        rid=make_rid(turn.completion.request_id, Phase.SYNTHESIS),
        phase=Phase.SYNTHESIS,
        agent=0,
        prompt_bound=len(ids),
        max_tokens=turn.prepared.max_tokens,
        policy_cached=prompts.shared,
    )
    call = turn.chat(spec, input_ids=ids)
    await stack.enter_async_context(call)
    written: list[str] = []
    async for batch in call:
        written += [text(event.json) for event in batch if isinstance(event, Output)]
        yield batch
    yield [
        Finish(0, finish_reason(call.tally)),
        Done(
            "deadline" if call.is_late else _why(after, stop_reason(call.tally, is_late=False)),
            rounds=after.rounds,
            disagrees=bool(winners) and _left_consensus("".join(written), after.consensus),
        ),
    ]


async def select(after: Deliberation) -> Batches:
    """No further call: the best draft goes out as it is, under the rid of the agent that wrote it (counted already)."""
    best = (after.winners or sorted(after.drafts, key=lambda draft: len(draft.ids)))[0]
    rid, n = best.rid, best.tokens
    yield [
        Output(rid, 0, msgspec.json.encode(best.text), n),
        Finish(0, "stop"),
        Done(after.why, rounds=after.rounds),
    ]


def shuffled(turn: Turn, drafts: Sequence[Draft]) -> list[Draft]:
    """An order that no agent's number decides (a first candidate is favoured), the same for the same request."""
    offset = sum(turn.completion.request_id.encode()) % len(drafts)
    return [*drafts[offset:], *drafts[:offset]]


def fitting(turn: Turn, drafts: Sequence[Draft]) -> list[Draft]:
    """As many drafts, from the first, as the context holds beside prompt, words and answer; of the first, its end."""
    prepared = turn.prepared
    room = turn.facts.context - prepared.prompt_bound - prepared.max_tokens - SYNTHESIS_BYTES
    first, taken = drafts[0], 1
    while taken < len(drafts) and _size(drafts[: taken + 1]) <= room:
        taken += 1
    if taken > 1 or _size(drafts[:1]) <= room:
        return list(drafts[:taken])
    return [replace(first, ids=first.ids[-max(1, room - drafts_bound(1, 0)) :])]


def _size(drafts: Sequence[Draft]) -> int:
    return sum(drafts_bound(1, len(draft.ids)) for draft in drafts)


def _why(after: Deliberation, answer: StopReason) -> StopReason:
    return answer if answer in ("length", "tool_call") else after.why


def _left_consensus(written: str, consensus: Key | None) -> bool:
    """The composed text gives another short answer than the agents agreed on. One that gives none is not judged."""
    key = canon(written)
    return key is not None and consensus is not None and not are_equal(key, consensus)
