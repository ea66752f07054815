"""Workers are kept alive: what is tried again, what is given up, what is left at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.stub_engine import StubEngine
from museway_engine.runtime.launch import WorkerDied
from museway_engine.runtime.supervise import Backoff, Change, Probing, State, Supervisor

pytestmark = pytest.mark.faults

_QUICK = Backoff(first_s=0.01, longest_s=0.02)
_WATCHFUL = Probing(every_s=0.05, timeout_s=0.5, misses_max=3, start_timeout_s=20)


class Watch:
    """Collects changes and lets a test wait for one."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._more = asyncio.Event()

    def __call__(self, change: Change) -> None:
        self.changes.append(change)
        self._more.set()

    async def saw(self, *states: State, after: int = 0) -> int:
        """Wait until `states` have come in this order, from change number `after` on; the number after the last."""
        async with asyncio.timeout(20):
            while True:
                at, pending = after, list(states)
                while at < len(self.changes) and pending:
                    if self.changes[at].state is pending[0]:
                        pending.pop(0)
                    at += 1
                if not pending:
                    return at
                self._more.clear()
                await self._more.wait()


def supervised(stub: StubEngine, body: Callable[[Supervisor, Watch], Awaitable[None]]) -> Watch:
    async def main() -> Watch:
        watch = Watch()
        async with Supervisor([stub.worker], on_change=watch, backoff=_QUICK, probing=_WATCHFUL) as supervisor:
            await body(supervisor, watch)
        return watch

    watch = asyncio.run(main())
    assert stub.processes() == []
    return watch


def test_up_and_down(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        await supervisor.ready()
        assert supervisor.states == {stub.worker.url: State.READY}
        assert supervisor.urls == (stub.worker.url,)

    watch = supervised(stub, body)
    assert [change.state for change in watch.changes] == [State.STARTING, State.READY, State.STOPPED]


def test_a_killed_worker_comes_back_on_its_address(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        await supervisor.ready()
        seen = 0
        for _ in range(2):
            for pid in stub.processes():
                os.kill(pid, signal.SIGKILL)
            seen = await watch.saw(State.WAITING, State.STARTING, State.READY, after=seen)
        assert stub.worker.running

    watch = supervised(stub, body)
    lost = [change for change in watch.changes if change.state is State.WAITING]
    assert [change.reason for change in lost] == ["ended with status 137"] * 2
    assert watch.changes[-1].restarts == 2


def test_a_hanging_worker_is_replaced(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        await supervisor.ready()
        before = stub.worker.pid
        stub.says("hang")
        await watch.saw(State.UNHEALTHY, State.WAITING)
        stub.says("200")
        await watch.saw(State.WAITING, State.READY)
        assert stub.worker.pid != before

    watch = supervised(stub, body)
    assert [change.reason for change in watch.changes if change.state is State.UNHEALTHY] == ["does not answer"]
    assert [change.reason for change in watch.changes if change.state is State.WAITING] == [
        "does not answer, 3 times in a row"
    ]


def test_bad_answers_with_good_ones_between_are_forgiven(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        await supervisor.ready()
        before = stub.worker.pid
        stub.says("503 503 200 503 503 200")
        await watch.saw(State.UNHEALTHY, State.READY, State.UNHEALTHY, State.READY)
        assert stub.worker.pid == before

    watch = supervised(stub, body)
    bad = ["/health says 503", "answers again"]
    assert [change.reason for change in watch.changes] == ["", "", *bad, *bad, ""]


def test_a_restart_that_fails_is_tried_again(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        await supervisor.ready()
        stub.says("200 die:1")
        for pid in stub.processes():
            os.kill(pid, signal.SIGKILL)
        await watch.saw(State.WAITING, State.STARTING, State.WAITING, State.STARTING)
        stub.says("200")
        await watch.saw(State.WAITING, State.WAITING, State.READY)

    supervised(stub, body)


def test_one_that_never_came_up_is_given_up_and_says_why(stub: StubEngine) -> None:
    async def body(supervisor: Supervisor, watch: Watch) -> None:
        stub.says("200 die:5")
        with pytest.raises(WorkerDied, match="the last line"):
            await supervisor.ready()
        assert supervisor.states == {stub.worker.url: State.FAILED}

    watch = supervised(stub, body)
    assert [change.state for change in watch.changes] == [State.STARTING, State.FAILED]


def test_what_its_user_raises_leaves_as_it_is(stub: StubEngine) -> None:
    """So that a command can say it in one line."""

    async def body(supervisor: Supervisor, _: Watch) -> None:
        stub.says("200 die:5")
        await supervisor.ready()

    with pytest.raises(WorkerDied, match="the last line"):
        supervised(stub, body)


def test_one_failing_does_not_end_the_other(stub: StubEngine, tmp_path: Path) -> None:
    other = StubEngine(tmp_path / "other")
    stub.says("200 die:5")

    async def main() -> None:
        watch = Watch()
        async with Supervisor([stub.worker, other.worker], on_change=watch, probing=_WATCHFUL) as supervisor:
            with pytest.raises(WorkerDied):
                await supervisor.ready()
            await watch.saw(State.READY)
            assert supervisor.states == {stub.worker.url: State.FAILED, other.worker.url: State.READY}

    asyncio.run(main())
    assert other.processes() == []


@pytest.mark.parametrize("moment", [State.STARTING, State.READY, State.UNHEALTHY, State.WAITING])
def test_cancelled_in_any_state_it_leaves_nothing(stub: StubEngine, moment: State) -> None:
    slow = Backoff(first_s=600, longest_s=600)

    async def main() -> None:
        watch = Watch()
        patient = Probing(every_s=0.05, timeout_s=0.5, misses_max=1000)
        async with Supervisor([stub.worker], on_change=watch, backoff=slow, probing=patient) as supervisor:
            if moment is not State.STARTING:
                await supervisor.ready()
            if moment is State.UNHEALTHY:
                stub.says("503")
            if moment is State.WAITING:
                for pid in stub.processes():
                    os.kill(pid, signal.SIGKILL)
            await watch.saw(moment)
            own = asyncio.current_task()
            assert own is not None
            own.cancel()
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert stub.processes() == []


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_double_up_to_a_bound_and_jitter_only_shortens(failures: int, chance: float) -> None:
    backoff = Backoff(first_s=0.5, longest_s=30, jitter=0.5)
    full = min(30.0, 0.5 * 2 ** min(failures - 1, 100))
    assert full / 2 <= backoff.pause_s(failures, chance) <= full
    assert backoff.pause_s(failures, 0.0) == full
