"""The judge's client, on the fake worker itself: what it says was delivered is what left."""

import asyncio

from bench.caller import Delivered, ask
from bench.mix import Planned, planned
from doubles.worker_process import Behaviour, FakeWorker


def _asked(worker: FakeWorker, **plan: int | None) -> Delivered:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 40}
    return asyncio.run(ask(worker.url, "key", Planned(form="stream", body=body, **plan)))


def test_a_stream_is_counted_to_its_end(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(text="one two three", end_token=False))
    delivered = _asked(fake_worker)
    assert (delivered.status, delivered.problem, delivered.left) == (200, "", False)
    assert delivered.output_events == fake_worker.wait_idle()[0].completion


def test_a_client_that_leaves_is_noticed(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(tokens=30, stall_after=5))
    delivered = _asked(fake_worker, leaves_after=3)
    assert delivered.left
    assert delivered.output_events == 3
    (entry,) = fake_worker.wait_idle()
    assert entry.disconnected is not None
    assert entry.sent >= 3


def test_a_stream_that_breaks_is_a_problem_and_not_an_exception(fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(done=False), times=1)
    assert _asked(fake_worker).problem == "the stream ended without [DONE]"
    fake_worker.script(Behaviour(drop_after=3), times=1)
    assert _asked(fake_worker).problem
    fake_worker.script(Behaviour(status=500), times=1)
    assert _asked(fake_worker).problem.startswith("status 500")


def test_the_same_seed_plans_the_same_requests() -> None:
    plan = list(planned(400, 60, seed=3, model="muse"))
    assert plan == list(planned(400, 60, seed=3, model="muse"))
    assert plan != list(planned(400, 60, seed=4, model="muse"))
    assert sum(request.leaves_after is not None for request in plan) == 60
    assert all(request.streams for request in plan if request.leaves_after is not None)
    assert len({request.form for request in plan}) == 9
