"""The prompts of a deliberation, by ids: the conversation first, drafts after it, instructions last.

All agents of a round get the same ids; a synthesis holds exactly the drafts it is made from. Drafts stand in fences whose
nonce their writers could not know, so that none can pose as an instruction or end its own fence.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence

from museway_engine.modes.contemplating.draft import Draft
from museway_engine.modes.contemplating.vote import short_answer
from museway_engine.modes.contemplating.words import (
    AGENT,
    AGREED,
    AGREED_CHARACTERS,
    NONCE_CHARACTERS,
    REFINE,
    SYNTHESIS,
    closing,
    opening,
)
from museway_engine.modes.mode import Turn


class Prompts:
    """The prompts of one request. `shared` is how many ids of the client's prompt stand before anything of ours."""

    def __init__(self, turn: Turn, prompt: list[int]) -> None:
        facts = turn.facts
        tail = list(facts.user_tail)
        is_user_last = bool(turn.completion.messages) and turn.completion.messages[-1].role == "user"
        fits = bool(tail) and is_user_last and prompt[-len(tail) :] == tail
        self._turn = turn
        self._head = prompt[: -len(tail)] if fits else prompt
        self._tail = tail if fits else []
        self._thought = list(facts.thinking.open) if facts.profile.thinking.is_native else []
        self._drop = facts.thinking.drop if facts.profile.thinking.is_native else 0
        self.shared = len(self._head)

    async def agents(self) -> list[int]:
        """Round 0. Where the user's turn can't be continued (a tool's result is last), nothing is added."""
        if not self._tail:
            return self._opened(self._head)
        return self._opened([*self._head, *await self._ids(AGENT), *self._tail])

    async def refining(self, drafts: Sequence[Draft]) -> tuple[list[int], int]:
        """A later round, and how many of its ids are shared by all its agents."""
        fenced, words = await asyncio.gather(self._fenced(drafts), self._ids(REFINE))
        shared = len(self._head) + len(fenced)
        return self._opened([*self._head, *fenced, *words, *self._tail]), shared

    async def synthesis(self, drafts: Sequence[Draft], *, agreed: bool) -> list[int]:
        words = SYNTHESIS
        answer = short_answer(drafts[0].text) if agreed else None
        if answer:
            words += AGREED + answer[:AGREED_CHARACTERS]
        fenced, instruction = await asyncio.gather(self._fenced(drafts), self._ids(words))
        return [*self._head, *fenced, *instruction, *self._tail]

    def _opened(self, ids: list[int]) -> list[int]:
        """A model that thinks natively thinks in its own way."""
        return [*ids[: len(ids) - self._drop], *self._thought]

    async def _fenced(self, drafts: Sequence[Draft]) -> list[int]:
        nonce = self._nonce(drafts)
        before, after = await asyncio.gather(self._ids(opening(nonce)), self._ids(closing(nonce)))
        return [token for draft in drafts for token in (*before, *draft.ids, *after)]

    def _nonce(self, drafts: Sequence[Draft]) -> str:
        """Another for each set of drafts: agents of a later round have seen the fences of their own prompt."""
        told = "\0".join((self._turn.completion.request_id, *(draft.rid for draft in drafts)))
        return hmac.new(self._turn.secret, told.encode(), hashlib.sha256).hexdigest()[:NONCE_CHARACTERS]

    async def _ids(self, text: str) -> list[int]:
        return await self._turn.ids(text)
