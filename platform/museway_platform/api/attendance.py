"""Whether the clients of a process are still there: one look round for all of them, instead of a task for each.

ASGI tells of a client that left through `receive` alone (a `send` after it is silent on every server), and a client may send
its body as slowly as it likes. A task and a time-out for each request would cost a tenth of what a whole JSON answer costs,
and most answers are over before either could matter. So one timer goes round: a request whose answer it meets for the
second time gets its watcher, a body that is overdue is given up.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final

from litestar.types import Receive

from museway_platform.api.errors import body_too_slow

LOOK_S: Final = 0.05
"""Between two rounds: a client that leaves at once is noticed within two of them, one that leaves later at once."""
BODY_S: Final = 60.0
"""How long a body may take to arrive: a client that drips it holds a connection, and nothing else, for so long."""


class ClientGone(Exception):
    """The client closed the connection; nobody reads what would be sent."""


class Attendance:
    """Of one process and one event loop. The timer runs while there are visits."""

    def __init__(self, *, body_s: float = BODY_S) -> None:
        self.body_s = body_s
        self._visits: set[Visit] = set()
        self._timer: asyncio.TimerHandle | None = None

    def visit(self, receive: Receive) -> Visit:
        """One request of the current task; see `Visit`."""
        visit = Visit(self, receive)
        self._visits.add(visit)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look_round)
        return visit

    def left(self, visit: Visit) -> None:
        self._visits.discard(visit)

    def _look_round(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look_round) if self._visits else None
        for visit in [*self._visits]:
            if visit.is_looked_after():
                self._visits.discard(visit)


class Visit:
    """A request while it is answered: a context manager around all that waits for the client, for a worker, for anything.

    Where the client leaves or its body is overdue the task is cancelled, only ever while it waits inside; leaving the context
    then raises ClientGone, or ApiError 408, instead.
    """

    __slots__ = ("_attendance", "_has_body", "_reason", "_receive", "_rounds", "_task", "_watcher")

    def __init__(self, attendance: Attendance, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._attendance = attendance
        self._receive = receive
        self._task: asyncio.Task[Any] = task
        self._watcher: asyncio.Task[None] | None = None
        self._reason: Exception | None = None
        self._has_body = False
        self._rounds = 0

    def has_body(self) -> None:
        """All that was to come has come: from here on the client has only to stay."""
        self._has_body = True
        self._rounds = 0

    def is_looked_after(self) -> bool:
        """The timer's look, every `LOOK_S`. True: it need not come again."""
        self._rounds += 1
        if not self._has_body:
            if self._rounds * LOOK_S > self._attendance.body_s:
                self._end(body_too_slow(self._attendance.body_s))
        elif self._rounds >= 2:
            # tidy: allow task: owned by this visit, cancelled in __exit__
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
            return True
        return False

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end(ClientGone())

    def _end(self, reason: Exception) -> None:
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._attendance.left(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._reason is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise self._reason from None
