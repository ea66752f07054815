"""The engine as a whole: starting with nothing up, knowing its models, saying what auto chose."""

from __future__ import annotations

import asyncio

import pytest

from asking.allowance import Book
from asking.ask import ask, in_rank, new_request_id, opened, run, until, wait_all_ready
from doubles.worker_process import Behaviour, FakeWorker, Options, ServerState
from museway_engine.completion import Completion, Contemplating, Message, Mode
from museway_engine.engine import Engine, ModelConfig, Pace, QueueLimits
from museway_engine.errors import InvalidForModel, NoWorker
from museway_engine.events import Chosen

pytestmark = pytest.mark.anyio

_NOBODY = "http://127.0.0.1:9"


async def test_it_starts_with_no_worker_up() -> None:
    async with opened(_NOBODY, ready=False) as engine:
        assert not await engine.wait_ready(0.1)
        (worker,) = engine.workers()
        assert not worker.ready
        assert worker.reason == "refused"
        assert engine.models()[0].context == 0
        with pytest.raises(NoWorker):
            engine.prepare(ask())
        with pytest.raises(NoWorker):
            await engine.tokenize(ask())


async def test_a_worker_that_comes_up_later_is_found() -> None:
    async with FakeWorker(Options(loading_ms=200)) as worker, opened(worker) as engine:
        assert (await run(engine, ask())).output


async def test_one_of_two_workers_is_enough() -> None:
    async with FakeWorker() as worker, opened(worker, _NOBODY, ready=False) as engine:
        assert await engine.wait_ready(10)
        assert (await run(engine, ask())).output
        assert sorted(w.ready for w in engine.workers()) == [False, True]


async def test_an_unhealthy_worker_gets_nothing_until_it_is_well() -> None:
    async with FakeWorker() as worker, opened(worker) as engine:
        worker.set_server(ServerState(health=503))
        await until(lambda: not engine.workers()[0].ready)
        assert "503" in engine.workers()[0].reason
        with pytest.raises(NoWorker):
            await run(engine, ask())
        worker.set_server(ServerState())
        await wait_all_ready(engine)
        assert (await run(engine, ask())).output


async def test_a_worker_that_hangs_is_not_ready() -> None:
    async with FakeWorker() as worker:
        config = ModelConfig(id="muse", urls=(worker.url,))
        engine = await Engine.open([config], secret=b"s", pace=Pace(look_s=0.05, answer_s=0.2))
        try:
            assert await engine.wait_ready(10)
            worker.pause()
            await until(lambda: not engine.workers()[0].ready)
            worker.resume()
            await wait_all_ready(engine)
        finally:
            await engine.close()


async def test_an_unknown_model(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        with pytest.raises(InvalidForModel) as caught:
            engine.prepare(ask(model="other"))
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "config", [ModelConfig(id="m", urls=("nonsense",)), ModelConfig(id="m", urls=(), profile="none")]
)
async def test_what_makes_no_sense_is_refused_at_once(config: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"URL|profile"):
        await Engine.open([config], secret=b"s")


async def test_two_models(fake_worker: FakeWorker) -> None:
    async with FakeWorker(Options(model="small", context=1000)) as other:
        configs = [
            ModelConfig(id="muse", urls=(fake_worker.url,), context=4096),
            ModelConfig(id="small", urls=(other.url,), profile="smollm2-cpu"),
        ]
        engine = await Engine.open(configs, secret=b"s", pace=Pace(look_s=0.05))
        try:
            assert await engine.wait_ready(10)
            assert {m.id: m.context for m in engine.models()} == {"muse": 4096, "small": 1000}
            assert engine.prepare(ask(model="small", max_tokens=None)).max_tokens == 256
            book = Book()
            await run(engine, ask(model="small"), book)
            assert book.calls[0].worker == other.url
        finally:
            await engine.close()


async def test_a_worker_of_another_model_gets_nothing(fake_worker: FakeWorker) -> None:
    async with FakeWorker(Options(context=1000)) as odd, opened(fake_worker, odd, ready=False) as engine:
        await until(lambda: any("another model" in worker.reason for worker in engine.workers()))
        assert sorted(worker.ready for worker in engine.workers()) == [False, True]
        assert (await run(engine, ask())).output


async def test_auto_says_first_what_it_chose(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        for words, mode in (
            ("Hi!", Mode.INSTANT),
            ("Prove it.", Mode.THINKING),
            ("Compare A and B", Mode.CONTEMPLATING),
        ):
            heard = await run(engine, ask(words, mode=Mode.AUTO, contemplating=Contemplating(agents=2)))
            first = heard.events[0]
            assert isinstance(first, Chosen)
            assert first.mode is mode
            assert heard.output


async def test_tokenize_is_what_a_call_counts(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        completion = ask("Count me, please")
        book = Book()
        await run(engine, completion, book)
        assert len(await engine.tokenize(completion)) == book.calls[0].prompts[0][0]
        assert len(fake_worker.book()) == 1  # tokenizing generates nothing


async def test_the_probe_generates_nothing(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker):
        assert fake_worker.book() == []
        assert {seen.path for seen in fake_worker.requests()}.isdisjoint({"/generate", "/v1/chat/completions"})


async def test_conversations_stay_on_their_worker_after_a_restart_of_the_engine() -> None:
    async with FakeWorker() as one, FakeWorker() as other:
        seen: dict[int, set[str]] = {n: set() for n in range(12)}
        for _ in range(2):
            async with opened(one, other) as engine:
                for conversation in seen:
                    for turns in range(2):
                        messages = [Message(role="user", content=f"Conversation {conversation}")]
                        messages += [
                            Message(role=r, content="and") for _ in range(turns) for r in ("assistant", "user")
                        ]
                        completion = Completion(
                            request_id=new_request_id(),
                            model="muse",
                            messages=tuple(messages),
                            max_tokens=4,
                            stream=True,
                        )
                        book = Book()
                        await run(engine, completion, book)
                        seen[conversation].add(book.calls[0].worker or "")
        assert all(len(places) == 1 for places in seen.values())
        assert len({place for places in seen.values() for place in places}) == 2


async def test_a_stopped_worker_moves_only_its_own_conversations() -> None:
    async with FakeWorker() as one, FakeWorker() as two, FakeWorker() as three, opened(one, two, three) as engine:
        completions = [ask(f"Conversation {n}", max_tokens=2) for n in range(20)]
        ranks = [in_rank(engine, completion) for completion in completions]
        two.stop()
        await until(lambda: sum(worker.ready for worker in engine.workers()) == 2)
        for completion, ranked in zip(completions, ranks, strict=True):
            book = Book()
            await run(engine, completion, book)
            expected = ranked[0] if ranked[0] != two.url else ranked[1]
            assert book.calls[-1].worker == expected


async def test_a_full_gateway_says_when_to_come_again() -> None:
    async with FakeWorker(Options(max_running=1)) as worker:
        config = ModelConfig(id="muse", urls=(worker.url,))
        limits = QueueLimits(waiting_max=1, wait_s=30)
        engine = await Engine.open([config], secret=b"s", queue=limits, pace=Pace(look_s=0.05))
        try:
            assert await engine.wait_ready(10)
            worker.script(Behaviour(tokens=500, delay_ms=20))
            books = [Book() for _ in range(3)]  # two run (1.1 × 1, rounded up), one waits
            tasks = [asyncio.create_task(run(engine, ask(max_tokens=500), book)) for book in books]
            await until(lambda: all(book.calls for book in books))
            with pytest.raises(NoWorker) as caught:
                await run(engine, ask())
            assert caught.value.queue_full
            assert caught.value.retry_after_s > 0
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            worker.wait_idle()
            worker.reset()
            assert (await run(engine, ask())).output
        finally:
            await engine.close()
