"""Who owns a task, and how an ending is protected from the cancellation that caused it (STYLE §7).

These two are the only places of the engine that start tasks; each waits for what it started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T], *, within_s: float) -> T:
    """Run `work` to its end although the caller is cancelled meanwhile, then let the cancellation go on.

    Raises TimeoutError where `work` took longer than `within_s`; it is cancelled then, and waited for. A cancellation
    that came meanwhile wins over the result and over an exception of `work`.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    late = loop.call_later(within_s, task.cancel)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    late.cancel()
    failure = None if task.cancelled() else task.exception()
    if cancelled is not None:
        raise cancelled from failure
    if task.cancelled():
        raise TimeoutError
    return task.result()


class Crew:
    """Tasks that live no longer than a context. Leaving it cancels those still at work and waits for all of them.

    Not a TaskGroup: a task that fails does not cancel its siblings (one agent failing degrades, never fails, a request),
    and the body's own exception leaves as it is. So a task must hand on its own failure; one that raises anything but
    CancelledError is a bug, and leaving the context raises it.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disband(after=error)

    async def disband(self, after: BaseException | None = None) -> None:
        """What leaving the context does; `after` is the exception that is on its way already."""
        for task in self._tasks:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while waiting := {task for task in self._tasks if not task.done()}:
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError as again:
                cancelled = again  # every task bounds its own ending: this loop ends
        bugs = [bug for task in self._tasks if not task.cancelled() and (bug := task.exception()) is not None]
        if bugs and after is None:
            raise bugs[0]
        if cancelled is not None and not isinstance(after, asyncio.CancelledError):
            raise cancelled
