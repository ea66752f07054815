"""Agents think in parallel over one shared prompt, vote, and stop as soon as the vote is decided (MODES §6)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

from museway_engine.allowance import AllowanceRefused, CallSpec
from museway_engine.errors import ContextTooLong
from museway_engine.events import PhaseStarted, StopReason
from museway_engine.lifetimes import Crew
from museway_engine.modes.channel import Channel
from museway_engine.modes.contemplating.agent import AgentRun
from museway_engine.modes.contemplating.draft import Draft
from museway_engine.modes.contemplating.prompt import Prompts
from museway_engine.modes.contemplating.vote import Ballot, Key
from museway_engine.modes.contemplating.words import SYNTHESIS_BYTES, drafts_bound
from museway_engine.modes.mode import Turn
from museway_engine.rid import Phase, make_rid

AGENTS_SHARE: Final = 0.6
"""Of the caller's time; the rest is kept for the synthesis."""

_FIRST_WAVE: Final = 3
_AGENTS_MIN: Final = 2
_AGENT_TOKENS_MIN: Final = 16


class Deliberation:
    """Runs the rounds; afterwards `drafts`, `winners`, `why` and `rounds` say what came of them.

    Agents that are no longer needed are aborted at once and drained beside what follows: `crew` owns them all.
    """

    def __init__(self, turn: Turn, prompts: Prompts, crew: Crew, channel: Channel) -> None:
        self._turn = turn
        self._prompts = prompts
        self._crew = crew
        self._channel = channel
        self._changes = asyncio.Event()
        self._ballot = Ballot()
        self._agents: list[AgentRun] = []
        self._rules = turn.facts.profile.contemplating
        self.drafts: list[Draft] = []
        self.why: StopReason = "complete"
        self.rounds = 0
        self.refusal: AllowanceRefused | None = None

    @property
    def winners(self) -> list[Draft]:
        """The drafts that agree, the shortest first, at most the profile's number; [] without agreement or majority."""
        voters = len(self.drafts)
        if not (self.why == "agreement" or self._ballot.has_majority(voters)):
            return []
        agreed = [draft for draft in self.drafts if draft.agent in set(self._ballot.winners)]
        return sorted(agreed, key=lambda draft: len(draft.ids))[: self._rules.winners]

    @property
    def consensus(self) -> Key | None:
        """The key that the winners share."""
        return self._ballot.top

    async def run(self) -> None:
        """All rounds. Raises ContextTooLong, and WorkerLost where a worker can't even tokenize."""
        ids = await self._prompts.agents()
        if self._room(ids) < _AGENT_TOKENS_MIN:
            raise ContextTooLong(prompt=len(ids), context=self._turn.facts.context)
        await self._round(Phase.THINK, 0, ids, shared=self._prompts.shared)
        while self._wants_another_round():
            ids, shared = await self._prompts.refining(self.drafts)
            specs = self._specs(Phase.REFINE, self.rounds + 1, ids, shared)
            if self._room(ids) < _AGENT_TOKENS_MIN or not self._turn.allowance.fits([*specs, self._composing()]):
                self.why = "budget"
                return
            self.rounds += 1
            self._ballot = Ballot()
            await self._round(Phase.REFINE, self.rounds, ids, shared=shared)

    def _room(self, ids: list[int]) -> int:
        """Tokens that an agent may still make in the model's context."""
        return self._turn.facts.context - len(ids)

    def _wants_another_round(self) -> bool:
        is_open = self.why == "complete" and not self._ballot.has_majority(len(self.drafts))
        return is_open and bool(self.drafts) and self.rounds < self._turn.prepared.rounds

    # ------------------------------------------------------------------ one round

    async def _round(self, phase: Phase, round_: int, ids: list[int], *, shared: int) -> None:
        self._channel.put_nowait([PhaseStarted(phase, round_, len(self.drafts) if round_ else 0)])
        specs = self._specs(phase, round_, ids, shared)
        self._agents = []
        for wave in self._waves(specs, round_):
            await self._start_wave(wave, ids, round_)
            if await self._is_settled(len(specs)):
                break
        drafts = [draft for agent in self._agents if agent.state == "done" and (draft := agent.draft())]
        if not drafts and not self.drafts:
            drafts = self._fragments()
        self.drafts = drafts or self.drafts

    def _specs(self, phase: Phase, round_: int, ids: list[int], shared: int) -> list[CallSpec]:
        """One per agent. The first pays for what the round adds to the shared prefix, the others find it cached."""
        turn, before = self._turn, self._prompts.shared if round_ else 0
        return [
            CallSpec(
                rid=make_rid(turn.completion.request_id, phase, round_=round_, agent=agent),
                phase=phase,
                agent=agent,
                prompt_bound=len(ids),
                max_tokens=min(turn.prepared.agent_max_tokens, self._room(ids)),
                policy_cached=before if agent == 0 else shared,
                internal=True,
                produces_reasoning=True,
            )
            for agent in range(turn.prepared.agents)
        ]

    def _composing(self) -> CallSpec:
        """The synthesis at its worst, for the question whether a plan fits."""
        turn = self._turn
        drafts = drafts_bound(turn.prepared.agents, self._rules.draft_tokens)
        return CallSpec(
            rid=make_rid(turn.completion.request_id, Phase.SYNTHESIS),
            phase=Phase.SYNTHESIS,
            agent=0,
            prompt_bound=turn.prepared.prompt_bound + drafts + SYNTHESIS_BYTES,
            max_tokens=turn.prepared.max_tokens,
            policy_cached=self._prompts.shared,
        )

    def _waves(self, specs: list[CallSpec], round_: int) -> list[list[CallSpec]]:
        if round_ == 0:
            while len(specs) > _AGENTS_MIN and not self._turn.allowance.fits([*specs, self._composing()]):
                specs.pop()
        if self._turn.completion.contemplating.economy and round_ == 0 and len(specs) > _FIRST_WAVE:
            return [specs[:_FIRST_WAVE], specs[_FIRST_WAVE:]]
        return [specs]

    async def _start_wave(self, specs: Sequence[CallSpec], ids: list[int], round_: int) -> None:
        """A long prompt is computed by one agent first, so that the others find it in the worker's tree."""
        agents = [self._agent(spec, ids, round_) for spec in specs]
        leads = not self._agents and len(ids) > self._rules.leader_tokens
        self._agents += agents
        for agent in agents:
            agent.own(self._crew.start(agent.run()))
            if leads:
                await agent.started.wait()
                leads = False

    def _agent(self, spec: CallSpec, ids: list[int], round_: int) -> AgentRun:
        return AgentRun(
            self._turn,
            spec,
            ids,
            seed=_seed(self._turn, round_, spec.agent),
            deadline=self._turn.deadline(AGENTS_SHARE),
            changed=self._hear,
        )

    def _hear(self, agent: AgentRun) -> None:
        """An agent changed: count its vote, tell the client, wake the round."""
        if agent.state == "done" and (draft := agent.draft()) is not None:
            self._ballot.add(agent.index, draft.key)
        self.refusal = self.refusal or agent.refusal
        finished = sum(a.state == "done" for a in self._agents)
        self._channel.put_nowait([agent.event(agree=self._ballot.votes[0], finished=finished)])
        self._changes.set()

    async def _is_settled(self, planned: int) -> bool:
        """Wait for the agents at work. True: no further wave is needed. `why` says what ended the round."""
        while True:
            self._changes.clear()
            left = planned - sum(agent.is_over for agent in self._agents)
            if self._ballot.is_decided(left, self._rules.lead):
                self.why = "agreement"
            elif any(agent.is_refused for agent in self._agents):
                self.why = "budget"
            elif self._is_late():
                self.why = "deadline"
            if self.why in ("agreement", "deadline"):
                for agent in self._agents:
                    agent.stop()
                return True
            if all(agent.is_over for agent in self._agents):
                return self.why != "complete"
            await self._changes.wait()

    def _is_late(self) -> bool:
        limit = self._turn.deadline(AGENTS_SHARE)
        return limit is not None and asyncio.get_running_loop().time() >= limit

    def _fragments(self) -> list[Draft]:
        """No agent came to an end: the longest piece of work is taken for a draft, and the end says so."""
        cut = [fragment for agent in self._agents if (fragment := agent.fragment()) is not None]
        cut.sort(key=lambda fragment: -fragment.tokens)
        if cut and self.why == "complete":
            self.why = "degraded"
        return cut[:1]


def _seed(turn: Turn, round_: int, agent: int) -> int:
    """Another for each agent; the same for the same client seed, best effort (DESIGN §5)."""
    of = turn.completion.sampling.seed
    told = f"{turn.completion.request_id if of is None else of} {round_} {agent}".encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=4).digest(), "big") & 0x7FFFFFFF
