"""A gateway under load and under fault, then judged: every token of the worker's book stands on the bill, and nothing is left.

    siege = Siege(gateway, worker)
    with siege.load(requests=200, seed=7) as load:
        load.wait_for(answers=40)
        gateway.kill()
    gateway.start()
    siege.judge(killed=True)

What a fault may cost is said by `judge`'s arguments, and nothing else may: clients see broken connections and documented
errors, never `internal_error`.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import httpx2
import msgspec
import uvloop
from msgspec import Struct, structs

from bench.caller import Delivered, ask
from bench.mix import Planned, planned
from bench.verdict import Balance, Record, compare, compare_balance, compare_delivered
from customers import Customer
from doubles.fake_worker.book import Entry
from doubles.worker_process import FakeWorker
from faults.rest import Held, held, wait_at_rest
from gateway import Gateway

_IDLE_S = 60.0
_STARTED_S = 60.0
_SHOWN = 20

BROKEN = re.compile(
    r"^(ConnectionResetError|ConnectionRefusedError|BrokenPipeError|IncompleteReadError|the stream ended)"
)
"""What a client sees of a gateway that is killed."""
ENGINE = re.compile(
    r"^(status 50[234]|error event: .*'(engine_lost|engine_timeout|engine_unavailable|engine_overloaded)')"
)
"""What a client is told of a worker that fails."""


UNAVAILABLE = re.compile(r"^status 503: .*(engine|limits)_unavailable")


class Verdict(Struct, kw_only=True):
    """What was judged but for `serves`, for a test that wants to know that its fault did happen."""

    delivered: list[Delivered]
    records: list[Record]
    book: list[Entry]

    @property
    def states(self) -> Counter[str]:
        return Counter(record.state for record in self.records)

    def one(self) -> tuple[Delivered, Record, Entry]:
        """Of a siege of one request with one call."""
        (delivered,), (record,), (entry,) = self.delivered, self.records, self.book
        return delivered, record, entry


class Load(threading.Thread):
    """Requests of a plan, so many at a time, from a thread of its own. Leaving the context waits for the clients' ends."""

    def __init__(self, url: str, key: str, plan: Iterable[Planned], concurrency: int) -> None:
        super().__init__(name="load", daemon=True)
        self._url, self._key = url, key
        self._plan = iter(plan)
        self._concurrency = concurrency
        self._enough = False
        self._turn = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._clients: list[asyncio.Task[None]] = []
        self.delivered: list[Delivered] = []

    def run(self) -> None:
        uvloop.run(self._ask_all())

    async def _ask_all(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            self._clients = [group.create_task(self._one_after_the_other()) for _ in range(self._concurrency)]

    async def _one_after_the_other(self) -> None:
        for request in self._plan:  # shared: each of them takes the next
            if self._enough:
                return
            done = await ask(self._url, self._key, request)
            with self._turn:
                self.delivered.append(done)
                self._turn.notify_all()

    def wait_for(self, *, answers: int, within_s: float = 60.0) -> None:
        """Until so many requests have ended, one way or another."""
        with self._turn:
            found = self._turn.wait_for(lambda: len(self.delivered) >= answers or not self.is_alive(), within_s)
        assert found, f"{len(self.delivered)} of {answers} requests ended within {within_s:g} s"

    def enough(self) -> None:
        """Begin no further request."""
        self._enough = True

    def leave(self) -> None:
        """Every client closes its connection now, wherever it is. What it had got by then is not judged."""
        self.enough()
        for client in self._clients:
            self._loop.call_soon_threadsafe(client.cancel)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.enough()
        self.join(180)
        assert not self.is_alive(), "clients wait for ever"


class Siege:
    """One customer of one gateway. `judge` looks at what happened since it was last called."""

    def __init__(self, gateway: Gateway, worker: FakeWorker, *, usd: int = 1000, plan: str = "unlimited") -> None:
        self.gateway = gateway
        self.worker = worker
        self.customer: Customer = gateway.customer(usd=usd, plan=plan)
        self._loads: list[Load] = []
        self._served: set[str] = set()
        self._judged: set[str] = set()
        self._calls = 0
        self._has_book = True
        self._balance = self.balance()
        self.serves()
        wait_at_rest(gateway)
        self.held: Held = held(gateway)
        """What the process holds when nothing happens."""

    @property
    def secret(self) -> str:
        return self.customer.secret

    def load(self, plan: Iterable[Planned], *, concurrency: int = 24, through: Gateway | None = None) -> Load:
        """Through the gateway's own port, or another one's of the same database. It is judged by the next `judge`."""
        load = Load((through or self.gateway).direct_url, self.secret, plan, concurrency)
        self._loads.append(load)
        return load

    def mixed(
        self, requests: int, *, seed: int, hangups: int = 0, concurrency: int = 24, through: Gateway | None = None
    ) -> Load:
        """Every mode and form (`bench.mix`)."""
        plan = planned(requests, hangups, seed=seed, model="muse")
        return self.load(plan, concurrency=concurrency, through=through)

    def one(self, *, stream: bool = True, max_tokens: int = 20, mode: str = "instant") -> Load:
        """A single request, to its end."""
        body = {
            "model": "muse",
            "messages": [{"role": "user", "content": "How many stones are there?"}],
            "max_tokens": max_tokens,
            "stream": stream,
            "mode": mode,
        }
        with self.load([Planned(form=mode, body=body)]) as load:
            return load

    def serves(self, within_s: float = 40.0) -> None:
        """A request is answered in full, at once or when a breaker has closed again."""
        deadline = time.monotonic() + within_s
        while True:
            (answer,) = self.one().delivered
            self._served.add(answer.request_id)
            if not answer.problem:
                return
            self._loads[-1].delivered.clear()  # refused: nothing to judge
            assert _is_told(answer, [UNAVAILABLE]) and time.monotonic() < deadline, answer
            time.sleep(0.1)  # tidy: allow sleep: polling a process of another program

    def under_way(self, calls: int, within_s: float = 20.0) -> list[str]:
        """The rids of what runs at the worker, once they are so many."""
        live: list[str] = []

        def are_there() -> bool:
            live[:] = [rid for rid in self.worker.book_page().live if rid.startswith("req_")]
            return len(live) >= calls

        self.gateway.until(are_there, within_s=within_s)
        return live

    def book_is_gone(self) -> None:
        """The worker is another process now: `judge` can't compare what ran before with its book."""
        self._calls = 0
        self._has_book = False

    def balance(self) -> Balance:
        headers = {"authorization": f"Bearer {self.secret}"}
        answer = httpx2.get(f"{self.gateway.direct_url}/v1/balance", headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=Balance)

    def judge(
        self,
        *,
        killed: bool = False,
        forgiven: Sequence[re.Pattern[str]] = (),
        overrun: bool = False,
        unread: bool = False,
        fenced_at: float | None = None,
        again: bool = True,
    ) -> Verdict:
        """Everything settles, then: the worker's book, the export, the clients, the balance and the books agree.

        `killed`: the gateway was, so that it may not have read a count that the worker sent, and clients saw it break.
        `forgiven`: other problems that clients may have been shown. `overrun`: the worker made tokens that nobody had
        asked for. `unread`: the gateway stopped reading what the worker went on to say. `fenced_at`
        (monotonic): what the gateway began from then on, until it noticed that it had been fenced, is nobody's to bill.
        `again`: a request is served at the end.
        """
        wait_at_rest(self.gateway)  # first: a request whose client has left may be on its way to the worker still
        book = [entry for entry in self.worker.wait_idle(_IDLE_S) if entry.rid.startswith("req_")]
        book, calls = book[self._calls :], len(book)
        records = self.records()
        if fenced_at is not None:
            recorded = {record.rid for record in records}
            book = [entry for entry in book if entry.began < fenced_at or entry.rid in recorded]
        delivered = [one for load in self._loads for one in load.delivered]
        patterns = [*forgiven, *([BROKEN] if killed else [])]
        told = [_excused(one, patterns, overrun=overrun) for one in delivered]
        found = [
            *(compare(book, records, unread=killed or unread) if self._has_book else []),
            *compare_delivered(told, records),
            *compare_balance(self._balance, after := self._balance_without_reserves(), records),
        ]
        assert not found, "\n".join(f"{one.about}: {one.what}" for one in found[:_SHOWN])
        self._calls = calls
        self._judged |= {record.id for record in records}
        self._balance = after
        self._loads.clear()
        self._has_book = True
        if again:
            self.serves()
        return Verdict(
            delivered=[one for one in delivered if one.request_id not in self._served],
            records=[record for record in records if record.request_id not in self._served],
            book=[entry for entry in book if entry.rid.partition(".")[0] not in self._served],
        )

    def records(self) -> list[Record]:
        """What the export has and `judge` has not passed yet."""
        done = self.gateway.museway("usage", "export")
        assert done.returncode == 0, done.stderr
        records = [msgspec.json.decode(line, type=Record) for line in done.stdout.splitlines()]
        return [record for record in records if record.id not in self._judged]

    def _balance_without_reserves(self) -> Balance:
        """The books reconcile; the balance as if nothing were set aside for unknown counts, which stand on no bill."""
        done = self.gateway.museway("reconcile", "--json")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        report = json.loads(done.stdout)
        assert report["ok"]
        balance = self.balance()
        return structs.replace(balance, available_nano_usd=balance.available_nano_usd + report["reserved"])


def _excused(one: Delivered, patterns: Iterable[re.Pattern[str]], *, overrun: bool) -> Delivered:
    """A client that was shown a fault it may be shown counts as one that left: what it got must be billed, no more."""
    if overrun and not one.problem:
        return structs.replace(one, left=True)
    if one.problem and _is_told(one, patterns):
        return structs.replace(one, left=True, problem="")
    return one


def _is_told(one: Delivered, patterns: Iterable[re.Pattern[str]]) -> bool:
    return any(pattern.search(one.problem) for pattern in patterns)
