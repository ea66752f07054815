"""What this process alone knows of the shared counters: its open holds, how they end, and what it used.

Of that nothing is lost while Redis is away: ends wait here, and new counters can be told everything.
"""

from __future__ import annotations

import asyncio
import logging

from msgspec import Struct

from museway_platform.limits.limiter import Ask, Used
from museway_platform.limits.shared.packing import Layout, bucket_name, gate_name
from museway_platform.limits.shared.trips import Answer, RoundTrips, ScriptFault, answers_of

log = logging.getLogger("museway.limits")


class Hold:
    """What would have to be told of an open hold if the counters were lost. `admitted`: microseconds, Redis's."""

    __slots__ = ("admitted", "amount", "inputs", "layout", "outputs", "subject")

    def __init__(self, ask: Ask, layout: Layout, admitted: int) -> None:
        self.subject = ask.subject
        self.amount = ask.amount
        self.inputs = ask.input_tokens
        self.outputs = ask.output_tokens
        self.layout = layout
        self.admitted = admitted


class _End(Struct, frozen=True, gc=False):
    """How a hold ends. `used` None: released."""

    organization: str
    used: Used | None


class OwnUse:
    """Of the process with this journal. Shut, it keeps what is to be said until it is open again."""

    def __init__(self, journal: str, trips: RoundTrips) -> None:
        self._journal = journal
        self._trips = trips
        self._is_open = False
        self.holds: dict[str, Hold] = {}
        self._ends: dict[str, _End] = {}
        self._settled: dict[str, int] = {}
        self._drained: dict[str, int] = {}
        self._untold: set[str] = set()

    def open(self) -> None:
        """Say what waited."""
        self._is_open = True
        for hold_id in list(self._ends):
            self._send(hold_id)
        for organization in list(self._untold):
            self._tell_drained(organization)

    def shut(self) -> None:
        self._is_open = False

    async def ended(self, hold_id: str, organization: str, used: Used | None) -> None:
        """As `end`; waits for the answer where there can be one now."""
        sent = self.end(hold_id, organization, used)
        if sent is not None:
            await asyncio.wait([sent])

    def end(self, hold_id: str, organization: str, used: Used | None) -> asyncio.Future[Answer] | None:
        """Whatever happens, the hold ends so: now, or as soon as that can be said. `used` None: it is released."""
        self._ends.setdefault(hold_id, _End(organization, used))
        return self._send(hold_id) if self._is_open else None

    def _send(self, hold_id: str) -> asyncio.Future[Answer]:
        end = self._ends[hold_id]
        used = end.used
        if used is None:
            sent = self._trips.ask(end.organization, "release", hold_id)
        else:
            numbers = (used.input_tokens, used.output_tokens, used.amount)
            sent = self._trips.ask(end.organization, "settle", hold_id, *numbers)

        def answered(done: asyncio.Future[Answer]) -> None:
            failure = None if done.cancelled() else done.exception()
            if isinstance(failure, ScriptFault):
                log.critical("%s can't be ended: %s", hold_id, failure)
            if done.cancelled() or failure is not None or self._ends.pop(hold_id, None) is None:
                return
            # Also where the hold was over: then this had been done before, and nobody heard the answer.
            self.holds.pop(hold_id, None)
            if used is not None:
                self._settled[end.organization] = self._settled.get(end.organization, 0) + used.amount

        sent.add_done_callback(answered)
        return sent

    def drained(self, organization: str, amount: int) -> None:
        """This much more of what this process settled is in the ledger."""
        self._drained[organization] = self._drained.get(organization, 0) + amount
        self._untold.add(organization)
        if self._is_open:
            self._tell_drained(organization)

    def _tell_drained(self, organization: str) -> None:
        """In sum, so that it may be told again."""
        self._untold.discard(organization)

        def told(done: asyncio.Future[Answer]) -> None:
            if done.cancelled() or done.exception() is not None:
                self._untold.add(organization)

        self._trips.ask(organization, "drained", self._journal, self._drained[organization]).add_done_callback(told)

    async def contribute(self) -> None:
        """Tell new counters everything. Nothing may be drained until their accounts are open. Raises LimiterUnavailable."""
        told: list[asyncio.Future[Answer]] = []
        for organization in self._settled.keys() | self._drained.keys():
            sums = (self._settled.get(organization, 0), self._drained.get(organization, 0))
            told.append(self._trips.ask(organization, "contribute", self._journal, *sums, entering=True))
        for hold_id, hold in self.holds.items():
            subject, layout = hold.subject, hold.layout
            packed = (
                self._journal,
                subject.key,
                (subject.organization, subject.project, subject.key),
                hold.amount,
                hold.inputs,
                hold.outputs,
                hold.admitted,
                (),
                [gate_name(gate) for gate in layout.gates],
                [(bucket_name(bucket), bucket.kind) for bucket in layout.buckets],
            )
            told.append(self._trips.ask(subject.organization, "restore", hold_id, packed, entering=True))
        await answers_of(told)
