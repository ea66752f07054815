"""One agent: one engine call that thinks by itself, over ids that all agents share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from museway_engine.allowance import AllowanceRefused, Blame, CallSpec
from museway_engine.errors import EngineError
from museway_engine.events import UNKNOWN, Agent, AgentState
from museway_engine.modes.contemplating.draft import Draft, conclusion
from museway_engine.modes.mode import Turn
from museway_engine.worker.call import Call
from museway_engine.worker.generate import Piece

_TELL_EVERY_S: Final = 1.0


class AgentRun:
    """Runs as one task; `state` and what it produced are read by the deliberation. Tokens.

    `started` is set with the first token, or when there will be none. `changed` is called on every change of state, and
    at most once a second while it thinks.
    """

    def __init__(
        self,
        turn: Turn,
        spec: CallSpec,
        ids: list[int],
        *,
        seed: int,
        deadline: float | None,
        changed: Callable[[AgentRun], None],
    ) -> None:
        self._turn = turn
        self._ids = ids
        self._seed = seed
        self._deadline = deadline
        self._changed = changed
        self._pieces: list[Piece] = []
        self._told = 0.0
        self._call: Call[Piece] | None = None
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self.spec = spec
        self.index = spec.agent
        self.state: AgentState = "started"
        self.is_refused = False
        """Its hold was refused, or used up."""
        self.refusal: AllowanceRefused | None = None
        self.error: EngineError | None = None
        self.started = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    @property
    def tokens(self) -> int:
        """As the worker counted; what came, where it did not."""
        counted = UNKNOWN if self._call is None else self._call.tally.completion
        return counted if counted >= 0 else sum(len(piece.ids) for piece in self._pieces)

    def draft(self) -> Draft | None:
        """What it concluded; None where it came to no conclusion."""
        return conclusion(self.spec, self._pieces, self._turn.facts, tokens=self.tokens)

    def fragment(self) -> Draft | None:
        """What it had when it was cut; only for want of any conclusion."""
        return conclusion(self.spec, self._pieces, self._turn.facts, tokens=self.tokens, is_cut=True)

    def event(self, *, agree: int, finished: int) -> Agent:
        return Agent(self.index, self.spec.phase, self.state, self.tokens, agree, finished)

    def own(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def stop(self) -> None:
        """It is needed no longer: abort at once, in the mode's name. The task ends when the last chunk was read."""
        if self.is_over or self._task is None:
            return
        self._is_stopping = True
        if self._call is not None:
            self._call.blame = Blame.MODE
        self._task.cancel()

    async def run(self) -> None:
        """An agent's failure is a state. What is no failure of the engine's (no room for a record) is raised too, and fails
        the request when the crew is left."""
        try:
            self._tell("started")
            await self._think()
        except AllowanceRefused as refusal:
            self.is_refused = True
            self.refusal = refusal
            self._tell("failed")
        except EngineError as error:
            self.error = error
            self._tell("failed")
        except asyncio.CancelledError:
            self._tell("stopped")
            if not self._is_stopping:
                raise
        except Exception:
            self._tell("failed")
            raise
        finally:
            self.started.set()

    async def _think(self) -> None:
        rules = self._turn.facts.profile.contemplating
        asked = self._turn.completion.sampling.temperature
        self._call = self._turn.generate(
            self.spec, self._ids, temperature=asked or rules.temperature, seed=self._seed, deadline=self._deadline
        )
        if self._is_stopping:
            self._call.blame = Blame.MODE
        async with self._call as call:
            self.spec = call.spec
            async for pieces in call:
                self._pieces += pieces
                if not self.started.is_set():
                    self.started.set()
                    self._tell("thinking")
                elif asyncio.get_running_loop().time() - self._told >= _TELL_EVERY_S:
                    self._tell("thinking")
            self.is_refused = call.is_out_of_cover
            was_cut = call.is_late or call.is_out_of_cover
        self._tell("stopped" if was_cut else "done")

    def _tell(self, state: AgentState) -> None:
        self.state = state
        self._told = asyncio.get_running_loop().time()
        self._changed(self)
