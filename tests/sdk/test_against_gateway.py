"""The SDK and its examples against the real gateway with a worker that is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from customers import Customer
from doubles.worker_process import FakeWorker
from gateway import Gateway, StartGateway
from museway import (
    AgentProgress,
    AsyncMuseway,
    AuthenticationError,
    Cost,
    Finished,
    InvalidRequestError,
    ModeChosen,
    Museway,
    NotFoundError,
    OutputDelta,
    ReasoningDelta,
)

EXAMPLES = sorted((Path(__file__).parents[2] / "sdk" / "examples").glob("*.py"))


@pytest.fixture
def gateway(start_gateway: StartGateway, fake_worker: FakeWorker) -> Gateway:
    return start_gateway([fake_worker.url])


@pytest.fixture
def customer(gateway: Gateway) -> Customer:
    return gateway.customer()


@pytest.fixture
def client(gateway: Gateway, customer: Customer) -> Iterator[Museway]:
    with Museway(customer.secret, base_url=gateway.url, max_retries=0) as client:
        yield client


def test_every_mode_and_its_price(client: Museway) -> None:
    before = client.balance()
    spent = Cost(0)
    for mode in ("instant", "thinking", "contemplating", "auto"):
        with client.stream("What is six times seven?", mode=mode, max_tokens=60) as stream:
            kinds = {type(event) for event in stream}
        reply = stream.reply
        assert {OutputDelta, Finished} <= kinds
        assert (ReasoningDelta in kinds) == (mode == "thinking") == bool(reply.reasoning)
        assert (AgentProgress in kinds) == (mode == "contemplating") == bool(reply.agents)
        assert (ModeChosen in kinds) == (mode == "auto")
        assert reply.cost is not None
        assert reply.cost.nano_usd > 0
        spent += reply.cost
        assert reply.request_id is not None
        receipt = client.receipt(reply.request_id)
        receipt.verify()
        assert receipt.total_nano_usd == reply.cost.nano_usd
    after = client.balance()
    assert before.available_nano_usd - after.available_nano_usd == spent.nano_usd
    assert after.held_nano_usd == 0


def test_a_stream_and_an_answer_are_the_same_reply(client: Museway) -> None:
    with client.stream("x", mode="instant", max_tokens=20, seed=1) as stream:
        list(stream)
    whole = client.generate("x", mode="instant", max_tokens=20, seed=1)
    assert stream.reply.finish_reason == whole.finish_reason
    assert stream.reply.usage is not None
    assert whole.usage is not None
    assert stream.reply.usage.completion_tokens == whole.usage.completion_tokens


def test_the_account(client: Museway) -> None:
    assert {model.id for model in client.models()} >= {"muse", "muse-instant", "muse-thinking"}
    assert client.model("muse").prices["instant"].output > 0
    assert client.tokenize("Hello there").count > 0
    quotes = client.quote("Hello there", max_tokens=20)
    assert all(quote.least <= quote.likely <= quote.worst for quote in quotes.values())
    assert any(limit.kind == "credit" for limit in client.limits())
    assert client.usage(start_time=0, limit=1).object == "page"
    assert client.costs(start_time=0, limit=1).object == "page"


def test_refusals_have_types(gateway: Gateway, client: Museway) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.generate("x", temperature=3)
    assert (refused.value.code, refused.value.param) == ("invalid_value", "temperature")
    assert refused.value.request_id is not None
    with pytest.raises(NotFoundError):
        client.model("gpt")
    with Museway("mw_live_junk", base_url=gateway.url) as stranger, pytest.raises(AuthenticationError):
        stranger.balance()


@pytest.mark.anyio
async def test_on_an_event_loop(gateway: Gateway, customer: Customer) -> None:
    async with AsyncMuseway(customer.secret, base_url=gateway.url) as client:
        async with client.stream("x", mode="thinking", max_tokens=60) as stream:
            text = "".join([piece async for piece in stream.text()])
        assert text == stream.reply.text != ""
        assert (await client.generate("x", max_tokens=5)).cost is not None


def test_examples_run(gateway: Gateway, customer: Customer) -> None:
    assert len(EXAMPLES) >= 6
    environment = {**os.environ, "MUSEWAY_API_KEY": customer.secret, "MUSEWAY_BASE_URL": gateway.url}
    for example in EXAMPLES:
        command = [sys.executable, str(example)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{example.name}: {done.stderr[-2000:]}"
        assert done.stdout.strip(), example.name
