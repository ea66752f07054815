"""Is this key new, running or done? The question and the claim are one step of the event loop: no two requests run under
one key in this process, however they race.

The registry owns the tasks of keyed runs, since a run may outlive the connection that asked for it.

What runs or was answered in other gateway processes is asked of `share`, where there are any: by the run's own task, before
anything else, so that the key is claimed here first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from museway_platform.idempotency.kept import Answer, Kept
from museway_platform.idempotency.names import Name
from museway_platform.idempotency.run import Abandoned, Run
from museway_platform.idempotency.share import AnsweredElsewhere, RunningElsewhere, Share

log = logging.getLogger("museway.idempotency")

R = TypeVar("R", bound=Run)


class Registry(Generic[R]):
    """`grace_s`: how long a run goes on with nobody attached."""

    def __init__(self, kept: Kept, *, grace_s: float, share: Share | None = None) -> None:
        self._kept = kept
        self._share = share
        self._grace_s = grace_s
        self._running: dict[bytes, R] = {}
        self._by_request: dict[str, R] = {}
        self._tasks: dict[R, asyncio.Task[None]] = {}

    def find(self, names: Sequence[Name]) -> R | Name | None:
        """The run under way, or the name under which an answer is kept, or None: the key is free. Never suspends."""
        run = self._running.get(names[0].hash)
        if run is not None:
            return run
        return next((name for name in names if name in self._kept), None)

    def of_request(self, request_id: str) -> R | None:
        """The run under way with this request id."""
        return self._by_request.get(request_id)

    async def read(self, name: Name) -> Answer | None:
        """As `Kept.read`."""
        return await self._kept.read(name)

    async def look_elsewhere(self, name: Name) -> Answer | None:
        """What another process answered under a key that is free here. Raises as `Share.look`."""
        return None if self._share is None else await self._share.look(name)

    def start(self, run: R, work: Callable[[R], Coroutine[Any, Any, None]]) -> None:
        """Claim the run's key, which must be free, and begin. `work` gives out the answer and ends the run; where it raises,
        the run ends with that and its key is free. Never suspends."""
        assert run.name.hash not in self._running
        self._running[run.name.hash] = run
        self._by_request[run.request_id] = run
        run.begin(grace_s=self._grace_s, abandon=lambda: self.abandon(run))
        # tidy: allow task: owned by this object, ended in close()
        self._tasks[run] = asyncio.get_running_loop().create_task(self._work(run, work), name=f"run {run.request_id}")

    async def keep(self, run: R, entries: list[bytes]) -> None:
        """Make the whole answer durable; the run's task calls it before it settles the bill."""
        await self._kept.keep(run.name, run.request_id, entries)
        if self._share is not None:
            await self._share.done(run.name, run.request_id, entries)

    async def unkeep(self, run: R) -> None:
        """The bill could not be settled: the answer does not count."""
        await self._kept.free(run.name, run.request_id)

    def abandon(self, run: R) -> None:
        """Abort it now, unless only its end is left to write."""
        if not run.is_ending and (task := self._tasks.get(run)) is not None:
            task.cancel()

    def abandon_unattended(self) -> None:
        """The process takes nothing new: nobody can come back."""
        for run in list(self._tasks):
            if not run.is_attended:
                self.abandon(run)

    async def keep_claims(self) -> None:
        """Keep what runs claimed among the processes, until cancelled."""
        if self._share is not None:
            await self._share.run()

    async def close(self) -> None:
        """End what runs, settled; then the files."""
        for run in list(self._tasks):
            self.abandon(run)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._kept.close()
        if self._share is not None:
            await self._share.close()

    async def _work(self, run: R, work: Callable[[R], Coroutine[Any, Any, None]]) -> None:
        error: Exception | None = None
        try:
            if self._share is not None:
                await self._share.claim(run.name)
            await work(run)
        except asyncio.CancelledError:
            error = Abandoned()
        except Exception as exc:
            error = exc
            if not run.is_attended and not isinstance(exc, AnsweredElsewhere | RunningElsewhere):
                log.warning("a run failed with nobody there: %s", type(exc).__name__, exc_info=exc)
        finally:
            run.is_ending = True
            if self._share is not None:
                await self._share.free(run.name)
            del self._running[run.name.hash], self._by_request[run.request_id], self._tasks[run]
            if not run.is_over:
                run.end(error)
