"""The official `openai` package, unmodified, against the gateway: what its users do must work as they know it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from customers import Customer
from doubles.worker_process import FakeWorker
from gateway import Gateway, StartGateway

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
def gateway(start_gateway: StartGateway, fake_worker: FakeWorker) -> Gateway:
    return start_gateway([fake_worker.url])


@pytest.fixture
def customer(gateway: Gateway) -> Customer:
    return gateway.customer()


@pytest.fixture
def client(gateway: Gateway, customer: Customer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=customer.secret, base_url=f"{gateway.url}/v1", max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="muse", messages=HELLO, max_completion_tokens=20)
    choice = answer.choices[0]
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model_extra is not None
    assert answer.model_extra["museway"]["cost_nano_usd"] > 0


def test_the_answer_can_be_sent_back(client: openai.OpenAI) -> None:
    """As its users do: the message object itself goes into the next request."""
    first = client.chat.completions.create(model="muse-thinking", messages=HELLO, max_completion_tokens=60)
    messages: list[ChatCompletionMessageParam] = [*HELLO]
    messages.append(first.choices[0].message)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    messages.append({"role": "user", "content": "And then?"})
    assert client.chat.completions.create(model="muse", messages=messages, max_completion_tokens=10).choices


@pytest.mark.parametrize("with_usage", [False, True])
def test_stream(client: openai.OpenAI, with_usage: bool) -> None:
    stream = client.chat.completions.create(
        model="muse",
        messages=HELLO,
        max_completion_tokens=20,
        stream=True,
        stream_options={"include_usage": True} if with_usage else openai.omit,
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (chunks[-1].usage is not None) == with_usage
    assert all(chunk.choices for chunk in chunks[:-1])
    assert bool(chunks[-1].choices) != with_usage
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["museway"]["mode"] == "instant"


def test_stream_helper(client: openai.OpenAI) -> None:
    """It raises where an answer ends with `length`: it gets room."""
    with client.chat.completions.stream(model="muse", messages=HELLO, max_completion_tokens=4000) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "".join(deltas)


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="muse", messages=HELLO, max_completion_tokens=10, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools(client: openai.OpenAI, streamed: bool) -> None:
    if streamed:
        with client.chat.completions.stream(
            model="muse", messages=HELLO, tools=[WEATHER], tool_choice="required", max_completion_tokens=100
        ) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(
            model="muse", messages=HELLO, tools=[WEATHER], tool_choice="required", max_completion_tokens=100
        ).choices[0]  # type: ignore[assignment]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)


class City(BaseModel):
    name: str
    people: int


def test_json_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="muse", messages=HELLO, response_format=City, max_completion_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="muse", messages=HELLO, max_completion_tokens=5, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert all(len(token.top_logprobs) <= 2 for token in logprobs.content)


def test_models(client: openai.OpenAI) -> None:
    assert "muse" in {model.id for model in client.models.list()}
    assert client.models.retrieve("muse").owned_by == "museway"


def test_errors(gateway: Gateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="muse", messages=HELLO, temperature=9)
    assert (bad.value.code, bad.value.param) == ("invalid_value", "temperature")
    assert bad.value.request_id is not None
    assert bad.value.request_id.startswith("req_")
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="mw_live_junk").models.list()
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(model="muse", messages=HELLO, extra_body={"lora_path": "/x"})
    assert (unknown.value.code, unknown.value.param) == ("unsupported_parameter", "lora_path")
    with pytest.raises(openai.NotFoundError) as planned:
        client.responses.create(model="muse", input="x")
    assert planned.value.code == "not_available"


@pytest.mark.anyio
async def test_on_an_event_loop(gateway: Gateway, customer: Customer) -> None:
    async with openai.AsyncOpenAI(api_key=customer.secret, base_url=f"{gateway.url}/v1") as client:
        stream = await client.chat.completions.create(
            model="muse-contemplating", messages=HELLO, max_completion_tokens=40, stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text
