"""Who gets a call, who waits, and that no place is ever lost."""

from __future__ import annotations

import asyncio

import pytest

from museway_engine.errors import NoWorker
from museway_engine.pool.affinity import rank
from museway_engine.pool.pool import Lease, Pool, QueueLimits, Wish
from museway_engine.pool.worker import Worker
from museway_engine.worker.client import Client, Timing
from museway_engine.worker.shapes import WorkerLoad

pytestmark = pytest.mark.anyio
_KEY = b"k" * 16


def _pool(workers: int = 2, *, running: int = 10, wait_s: float = 5.0, waiting: int = 8) -> Pool:
    made = [Worker(Client(f"http://127.0.0.1:{30000 + n}", timing=Timing()), "muse") for n in range(workers)]
    for worker in made:
        worker.is_up, worker.running_max = True, running
    return Pool(made, QueueLimits(waiting_max=waiting, wait_s=wait_s))


def _wish(tokens: int = 100, key: bytes = _KEY, *, pinned: Worker | None = None, urgent: bool = False) -> Wish:
    return Wish(key=key, tokens=tokens, pinned=pinned, urgent=urgent)


async def test_a_conversation_stays_on_its_worker() -> None:
    pool = _pool(4)
    preferred = rank(_KEY, pool.workers)[0]
    for _ in range(20):
        lease = await pool.acquire(_wish())
        assert lease.worker is preferred
        lease.release()


async def test_the_load_bound_spills_to_the_next_in_rank_always_the_same() -> None:
    pool = _pool(3, running=100)
    ranked = rank(_KEY, pool.workers)
    seen = [(await pool.acquire(_wish(4000))).worker for _ in range(9)]
    assert seen[0] is seen[1] is ranked[0]
    assert {w.url for w in seen} == {w.url for w in ranked}
    loads = [worker.tokens for worker in pool.workers]
    assert max(loads) <= 1.5 * sum(loads) / 3 + 4000


async def test_an_idle_pool_is_not_loaded() -> None:
    pool = _pool(2)
    preferred = rank(_KEY, pool.workers)[0]
    leases = [await pool.acquire(_wish(1000)) for _ in range(6)]
    assert {lease.worker for lease in leases} == {preferred}


async def test_a_full_worker_is_passed_over() -> None:
    pool = _pool(2, running=1)
    ranked = rank(_KEY, pool.workers)
    assert [(await pool.acquire(_wish(1))).worker for _ in range(4)] == [ranked[0]] * 2 + [ranked[1]] * 2


async def test_a_cramped_worker_is_passed_over_while_its_report_is_fresh() -> None:
    pool = _pool(2)
    first, second = rank(_KEY, pool.workers)
    first.take_load(WorkerLoad(token_usage=0.95))
    assert (await pool.acquire(_wish())).worker is second


async def test_the_load_of_others_counts() -> None:
    pool = _pool(2)
    first, second = rank(_KEY, pool.workers)
    first.take_load(WorkerLoad(num_running_reqs=30, num_waiting_reqs=10))
    assert (await pool.acquire(_wish())).worker is second


async def test_a_pinned_call_waits_for_its_worker() -> None:
    pool = _pool(2, running=1)
    last = rank(_KEY, pool.workers)[1]
    leases = [await pool.acquire(_wish(pinned=last)) for _ in range(2)]
    waiting = asyncio.create_task(pool.acquire(_wish(pinned=last)))
    assert await _is_waiting(waiting)
    other = await pool.acquire(_wish(urgent=True))
    assert other.worker is not last
    leases[0].release()
    assert (await waiting).worker is last


async def test_a_pinned_call_goes_elsewhere_when_its_worker_is_down() -> None:
    pool = _pool(2)
    first, second = pool.workers
    first.is_up = False
    assert (await pool.acquire(_wish(pinned=first))).worker is second


async def test_waiting_calls_get_places_in_order_urgent_ones_first() -> None:
    pool = _pool(1, running=1)
    held = [await pool.acquire(_wish()) for _ in range(2)]
    order: list[str] = []

    async def want(name: str, *, urgent: bool = False) -> None:
        lease = await pool.acquire(_wish(urgent=urgent))
        order.append(name)
        lease.release()

    tasks: list[asyncio.Task[None]] = []
    for name, urgent in (("a", False), ("b", False), ("c", True)):
        tasks.append(asyncio.create_task(want(name, urgent=urgent)))
        assert await _is_waiting(tasks[-1])
    held[0].release()
    await asyncio.gather(*tasks)
    assert order == ["c", "a", "b"]
    held[1].release()
    assert [w.in_flight for w in pool.workers] == [0]


async def test_a_full_queue_says_so() -> None:
    pool = _pool(1, running=1, waiting=1)
    for _ in range(2):
        await pool.acquire(_wish())
    waiting = asyncio.create_task(pool.acquire(_wish()))
    assert await _is_waiting(waiting)
    with pytest.raises(NoWorker) as caught:
        await pool.acquire(_wish())
    assert caught.value.queue_full
    assert caught.value.retry_after_s > 0
    waiting.cancel()


async def test_waiting_has_an_end() -> None:
    pool = _pool(1, running=1, wait_s=0.05)
    leases = [await pool.acquire(_wish()) for _ in range(2)]
    with pytest.raises(NoWorker) as caught:
        await pool.acquire(_wish())
    assert caught.value.queue_full
    for lease in leases:
        lease.release()
    assert pool.workers[0].in_flight == 0


async def test_no_worker_ready_fails_at_once() -> None:
    pool = _pool(1)
    pool.workers[0].is_up = False
    with pytest.raises(NoWorker) as caught:
        await pool.acquire(_wish())
    assert not caught.value.queue_full


async def test_a_place_that_comes_in_the_moment_of_cancelling_is_given_back() -> None:
    pool = _pool(1, running=1)
    held = [await pool.acquire(_wish()) for _ in range(2)]
    waiting = asyncio.create_task(pool.acquire(_wish()))
    assert await _is_waiting(waiting)
    held[0].release()  # the place is handed over now …
    waiting.cancel()  # … and nobody takes it
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held[1].release()
    assert (pool.workers[0].in_flight, pool.workers[0].tokens) == (0, 0)


async def test_releasing_twice_gives_back_once() -> None:
    pool = _pool(1)
    lease = await pool.acquire(_wish())
    other = await pool.acquire(_wish())
    lease.release()
    lease.release()
    assert pool.workers[0].in_flight == 1
    other.release()
    assert pool.workers[0].tokens == 0


async def test_a_breaker_opens_after_three_failures_and_closes_after_a_success() -> None:
    pool = _pool(1)
    worker = pool.workers[0]
    for _ in range(2):
        worker.breaker.failed()
    assert worker.is_ready
    worker.breaker.failed()
    assert not worker.is_ready
    assert "breaker" in worker.state
    worker.breaker.succeeded()
    assert worker.is_ready


def test_a_lease_counts_from_the_moment_it_is_made() -> None:
    pool = _pool(1)
    Lease(pool, pool.workers[0], 70)
    assert (pool.workers[0].in_flight, pool.workers[0].tokens) == (1, 70)


async def _is_waiting(task: asyncio.Task[object]) -> bool:
    """It had every chance to go on, and did not."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()
