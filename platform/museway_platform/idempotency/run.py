"""A request under way, shared by all who ask for its answer: a log of what was given out, its readers, and a gate.

The one rule: *what stands in the log is counted and billed, and nothing else is given out*. So a reader may come late, leave
and come back: what it reads again costs nothing, and what nobody was there to read is not counted.

The gate keeps that rule from the producing side. Before a batch is counted (`gate`, called by serving between the engine
and the meter) a reader must be attached that has taken all that was before. Without one the producer waits; the worker goes
on into its connection's buffers, a bounded run-ahead, until a reader is back or the grace is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from museway_platform.idempotency.names import Name


class Abandoned(Exception):
    """The run was ended before its answer was whole: nobody came back in time, or it was cancelled by its id."""


class Run:
    """`after`, given to `attach`, counts entries of the log. Belongs to one event loop; only `gate` and `Reader.read` suspend.

    `is_ending` is set by the producer where all is counted and only the end is left to write: from there on the run is
    not abandoned any more.
    """

    def __init__(self, name: Name, request_id: str, organization: str) -> None:
        self.name = name
        self.request_id = request_id
        self.organization = organization
        self.log: list[bytes] = []
        self.is_ending = False
        self.is_over = False
        self.error: Exception | None = None
        self._grace_s = 0.0
        self._abandon: Callable[[], None] = _nothing
        self._readers: list[Reader] = []
        self._producer: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, *, grace_s: float, abandon: Callable[[], None]) -> None:
        """`abandon` is called where nobody was attached for `grace_s` seconds."""
        self._grace_s = grace_s
        self._abandon = abandon

    # -- who reads ----------------------------------------------------------------------------------------------------

    def attach(self, after: int = 0) -> Reader:
        """A reader of all that comes after so many entries; to be entered, and left when its client is gone."""
        return Reader(self, after)

    @property
    def is_attended(self) -> bool:
        return bool(self._readers)

    def arrived(self, reader: Reader) -> None:
        self._readers.append(reader)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def departed(self, reader: Reader) -> None:
        self._readers.remove(reader)
        if not self._readers and not self.is_over:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    def caught_up(self) -> None:
        """A reader has taken everything and waits: the producer may go on."""
        if self._producer is not None and not self._producer.done():
            self._producer.set_result(None)

    # -- who produces -------------------------------------------------------------------------------------------------

    async def gate(self) -> None:
        """Wait until somebody is there to take the next batch."""
        while not any(reader.is_waiting for reader in self._readers):
            self._producer = asyncio.get_running_loop().create_future()
            try:
                await self._producer
            finally:
                self._producer = None

    def append(self, *entries: bytes) -> None:
        """Give out what was counted."""
        self.log += entries
        self._wake()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; with `error` readers raise it once they have taken the rest."""
        self.is_over = True
        self.error = error
        self._abandon = _nothing  # it holds the run: nothing is left to the collector
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()


def _nothing() -> None: ...


class Reader:
    """One client's place in a run."""

    __slots__ = ("_place", "_run", "_waiter")

    def __init__(self, run: Run, after: int) -> None:
        self._run = run
        self._place = after
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._run.arrived(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.departed(self)

    @property
    def is_waiting(self) -> bool:
        """It has taken everything. Not so one that was woken and has not looked yet."""
        return self._waiter is not None and not self._waiter.done()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> list[bytes]:
        """The entries after those of the last call, which its client has by now; [] at the end. Raises the run's error."""
        run = self._run
        while self._place >= len(run.log):
            if run.is_over:
                if run.error is not None:
                    raise run.error
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            run.caught_up()
            try:
                await self._waiter
            finally:
                self._waiter = None
        entries = run.log[self._place :]
        self._place += len(entries)
        return entries
