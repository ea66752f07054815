"""Endings run to their end, and tasks end with their owner."""

from __future__ import annotations

import asyncio

import pytest

from museway_engine.lifetimes import Crew, shielded

pytestmark = pytest.mark.anyio


async def test_shielded_work_outlives_its_callers_cancellation() -> None:
    go, ended = asyncio.Event(), asyncio.Event()

    async def ending() -> str:
        await go.wait()
        ended.set()
        return "done"

    task = asyncio.create_task(shielded(ending(), within_s=5))
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_shielded_work_gives_its_result_or_its_failure() -> None:
    async def good() -> int:
        return 5

    async def bad() -> int:
        raise KeyError("x")

    assert await shielded(good(), within_s=5) == 5
    with pytest.raises(KeyError):
        await shielded(bad(), within_s=5)


async def test_shielded_work_has_a_deadline() -> None:
    cancelled = asyncio.Event()

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        await shielded(stuck(), within_s=0.01)
    assert cancelled.is_set()


async def _forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def test_a_crew_ends_with_its_context() -> None:
    ended: list[str] = []
    async with Crew() as crew:
        for name in "abc":
            crew.start(_forever(ended, name))
        await asyncio.sleep(0)
    assert sorted(ended) == ["a", "b", "c"]


async def test_the_bodys_exception_leaves_as_it_is() -> None:
    ended: list[str] = []

    async def body() -> None:
        async with Crew() as crew:
            crew.start(_forever(ended, "a"))
            await asyncio.sleep(0)
            raise KeyError("body")

    with pytest.raises(KeyError):
        await body()
    assert ended == ["a"]


async def test_a_bug_in_a_task_is_not_lost() -> None:
    async def bug() -> None:
        raise ZeroDivisionError

    async def use() -> None:
        async with Crew() as crew:
            task = crew.start(bug())
            await asyncio.wait((task,))

    with pytest.raises(ZeroDivisionError):
        await use()


async def test_a_cancelled_crew_waits_for_endings() -> None:
    ended: list[str] = []
    gate = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await gate.wait()
            ended.append("slow")

    async def body() -> None:
        async with Crew() as crew:
            crew.start(slow_to_end())
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["slow"]
