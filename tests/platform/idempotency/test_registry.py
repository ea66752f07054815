"""Who may run under a key, and that nothing is left of a run when it is over."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from museway_platform.idempotency.folder import own_folder
from museway_platform.idempotency.kept import Kept
from museway_platform.idempotency.names import Name, Namer
from museway_platform.idempotency.registry import Registry
from museway_platform.idempotency.run import Abandoned, Run

pytestmark = pytest.mark.anyio


def names(number: int = 1) -> list[Name]:
    return Namer([b"n" * 32]).names(project="prj_a", route="/r", key=b"k%d" % number, body="x")


def run_of(number: int = 1) -> Run:
    return Run(names(number)[0], f"req_{number:026}", "org_1")


@pytest.fixture
async def registry(tmp_path: Path, anyio_backend: object) -> AsyncIterator[Registry[Run]]:
    kept = await Kept.open(tmp_path, segment_bytes=1 << 20)
    registry = Registry[Run](kept, grace_s=0.01)
    yield registry
    await registry.close()


async def read_all(run: Run) -> list[bytes]:
    entries: list[bytes] = []
    with run.attach() as reader:
        while more := await reader.read():
            entries += more
    return entries


async def test_new_then_running_then_done_then_nothing_in_memory(registry: Registry[Run]) -> None:
    async def work(run: Run) -> None:
        await run.gate()
        run.append(b"a")
        await registry.keep(run, [b"a", b"b"])
        run.append(b"b")
        run.end()

    for number in range(50):
        assert registry.find(names(number)) is None
        run = run_of(number)
        registry.start(run, work)
        assert registry.find(names(number)) is run
        assert registry.of_request(run.request_id) is run
        assert await read_all(run) == [b"a", b"b"]
        found = registry.find(names(number))
        assert found == names(number)[0]
        assert registry.of_request(run.request_id) is None
        kept = await registry.read(names(number)[0])
        assert kept is not None
        assert kept.entries == [b"a", b"b"]


async def test_an_answer_goes_with_its_last_reader(registry: Registry[Run]) -> None:
    """By itself, not with the next round of the collector, which is seldom."""

    async def work(run: Run) -> None:
        await run.gate()
        await registry.keep(run, [b"a"])
        run.append(b"a")
        run.end()

    async def one() -> weakref.ref[Run]:
        run = run_of()
        registry.start(run, work)
        await read_all(run)
        return weakref.ref(run)

    gc.collect()
    gc.disable()
    try:
        assert (await one())() is None
    finally:
        gc.enable()


async def test_a_failure_is_everybodys_and_frees_the_key(registry: Registry[Run]) -> None:
    async def work(run: Run) -> None:
        await run.gate()
        raise ValueError("no")

    run = run_of()
    registry.start(run, work)
    answers = await asyncio.gather(*(read_all(run) for _ in range(5)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["no"] * 5
    assert registry.find(names()) is None


async def test_abandoned_where_nobody_comes_back(registry: Registry[Run]) -> None:
    cancelled = asyncio.Event()

    async def work(run: Run) -> None:
        try:
            await run.gate()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    run = run_of()
    registry.start(run, work)
    with run.attach():
        pass
    async with asyncio.timeout(5):
        await cancelled.wait()
    with pytest.raises(Abandoned):
        await read_all(run)
    assert registry.find(names()) is None


async def test_the_end_is_written_to_its_end(registry: Registry[Run]) -> None:
    """What is counted whole is not abandoned any more: neither by who is gone nor by the process's stop."""
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def work(run: Run) -> None:
        run.is_ending = True
        ending.set()
        await go_on.wait()
        await registry.keep(run, [b"a"])
        run.append(b"a")
        run.end()

    run = run_of()
    registry.start(run, work)
    await ending.wait()
    registry.abandon(run)
    registry.abandon_unattended()
    go_on.set()
    assert await read_all(run) == [b"a"]


async def test_processes_of_one_machine_have_folders_of_their_own(tmp_path: Path) -> None:
    with own_folder(tmp_path) as first:
        with own_folder(tmp_path) as second:
            assert first != second
        with own_folder(tmp_path) as third:
            assert third == second
    with own_folder(tmp_path) as again:
        assert again == first
