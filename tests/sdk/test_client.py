"""What is sent, and what comes back, call by call."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

import pytest

from doubles.scripted_server import ScriptedServer, answer
from museway import AsyncMuseway, ConfigurationError, Cost, InvalidAnswerError, Museway, Reply, ToolCall, Window, types

MUSEWAY = {
    "request_id": "req_1",
    "mode": "contemplating",
    "price_version": 3,
    "cost_nano_usd": 1_234_500_000,
    "stop_reason": "agreement",
    "client_prompt_tokens": 5,
    "agents": [
        {
            "index": 0,
            "phase": "think",
            "prompt_tokens": 5,
            "cached_tokens": 4,
            "completion_tokens": 40,
            "finish_reason": "complete",
            "cost_nano_usd": 9,
        }
    ],
    "a_field_of_tomorrow": True,
}
USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def completion(**message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": "42", "refusal": None, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "muse",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "museway": MUSEWAY,
    }


LIMITS = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "1000",
    "x-ratelimit-remaining-tokens": "900",
    "x-ratelimit-reset-tokens": "1h6m2.5s",
}


def test_a_reply(server: ScriptedServer, client: Museway) -> None:
    server.script(answer(completion(reasoning_content="Hm."), LIMITS))
    reply = client.generate("Six times seven?")
    assert reply.text == "42"
    assert reply.reasoning == "Hm."
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 4
    assert reply.cost is not None
    assert (reply.cost.nano_usd, str(reply.cost), reply.cost.usd) == (1_234_500_000, "$1.2345", Decimal("1.2345"))
    assert (reply.mode, reply.request_id) == ("contemplating", "req_1")
    assert [agent.completion_tokens for agent in reply.agents] == [40]
    assert reply.rate_limit is not None
    assert reply.rate_limit.requests == Window(60, 59, 1)
    assert reply.rate_limit.tokens == Window(1000, 900, 3963)


@pytest.mark.parametrize("odd", ["", "soon", "120ms", "s"])
def test_headers_that_do_not_parse_are_not_said(odd: str, server: ScriptedServer, client: Museway) -> None:
    server.script(answer(completion(), {**LIMITS, "x-ratelimit-reset-tokens": odd}))
    limit = client.generate("x").rate_limit
    assert limit is not None
    assert (limit.requests, limit.tokens) == (Window(60, 59, 1), None)


def test_tool_calls(server: ScriptedServer, client: Museway) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    server.script(answer(completion(content=None, tool_calls=[call])))
    reply = client.generate("Weather?", tools=[{"type": "function", "function": {"name": "weather"}}])
    assert (reply.text, reply.tool_calls) == ("", (ToolCall("c1", "weather", '{"city":"Rome"}'),))
    assert reply.tool_calls[0].parsed() == {"city": "Rome"}


def sent(server: ScriptedServer, client: Museway, prompt: Any, **options: Any) -> Any:
    server.script(answer(completion()))
    client.generate(prompt, **options)
    return server.heard[-1].json


def test_the_least_body(server: ScriptedServer, client: Museway) -> None:
    assert sent(server, client, "x") == {"model": "muse", "messages": [{"role": "user", "content": "x"}]}
    heard = server.heard[-1]
    assert (heard.method, heard.path) == ("POST", "/v1/chat/completions")
    assert heard.headers["authorization"] == "Bearer mw_test_key"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["user-agent"].startswith("museway-python/")


def test_every_option(server: ScriptedServer, client: Museway) -> None:
    body = sent(
        server,
        client,
        [types.UserMessage(content="x"), {"role": "assistant", "content": "y"}],
        model="muse-auto",
        system="Be brief.",
        mode="contemplating",
        effort="high",
        max_tokens=9,
        agents=4,
        rounds=1,
        compose="select",
        max_cost_nano_usd=5,
        deadline_ms=100,
        tools=[types.FunctionTool(type="function", function=types.FunctionDefinition(name="f"))],
        tool_choice="auto",
        response_format=types.JsonObjectFormat(),
        stop=["a"],
        temperature=0.5,
        cache_key="k",
        metadata={"a": "b"},
    )
    assert body == {
        "model": "muse-auto",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y"},
        ],
        "mode": "contemplating",
        "reasoning_effort": "high",
        "max_completion_tokens": 9,
        "contemplating": {"agents": 4, "rounds": 1, "compose": "select"},
        "max_cost_nano_usd": 5,
        "deadline_ms": 100,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "stop": ["a"],
        "temperature": 0.5,
        "prompt_cache_key": "k",
        "metadata": {"a": "b"},
    }


def test_a_model_of_the_client(server: ScriptedServer) -> None:
    with Museway("mw_k", base_url=server.url, model="other") as client:
        assert sent(server, client, "x")["model"] == "other"
        assert sent(server, client, "x", model="third")["model"] == "third"


def test_zero_and_false_are_sent(server: ScriptedServer, client: Museway) -> None:
    body = sent(server, client, "x", temperature=0, parallel_tool_calls=False, rounds=0, max_cost_nano_usd=0)
    assert body["temperature"] == 0
    assert body["parallel_tool_calls"] is False
    assert body["contemplating"] == {"rounds": 0}
    assert body["max_cost_nano_usd"] == 0


def test_an_option_that_does_not_exist(client: Museway) -> None:
    wrong: dict[str, Any] = {"temprature": 1}
    with pytest.raises(TypeError, match="temprature"):
        client.generate("x", **wrong)


MODEL = {
    "id": "muse",
    "object": "model",
    "created": 1,
    "owned_by": "museway",
    "context": 2048,
    "modes": ["instant", "a mode of tomorrow"],
    "prices": {"instant": {"input": 1, "cached_input": 2, "reasoning": 3, "output": 4}},
    "price_version": 1,
}


def test_models(server: ScriptedServer, client: Museway) -> None:
    server.script(answer({"object": "list", "data": [MODEL]}), answer(MODEL))
    (model,) = client.models()
    assert model == client.model("muse/a b")
    assert model.prices["instant"].cached_input == 2
    assert server.heard[1].path == "/v1/models/muse%2Fa%20b"


def test_quote(server: ScriptedServer, client: Museway) -> None:
    server.script(answer({"instant": {"least": 1, "likely": 2, "worst": 3}}))
    assert client.quote("x")["instant"].worst == 3


def test_usage_and_costs(server: ScriptedServer, client: Museway) -> None:
    result = {"object": "organization.costs.result", "amount": {"value": 0.000001, "currency": "usd"}}
    result |= {"amount_nano_usd": 1000, "line_item": "output", "quantity": 3, "quantity_unit": "tokens"}
    result |= {"project_id": None, "api_key_id": None, "model": None, "mode": None}
    bucket = {"object": "bucket", "start_time": 0, "end_time": 86400, "results": [result]}
    server.script(answer({"object": "page", "data": [bucket], "has_more": False, "next_page": None}))
    page = client.costs(start_time=0, group_by=["line_item", "model"], modes=["instant"], limit=1)
    assert page.data[0].results[0].amount_nano_usd == 1000
    assert server.heard[0].path == "/v1/costs?start_time=0&group_by=line_item&group_by=model&modes=instant&limit=1"


def test_limits(server: ScriptedServer, client: Museway) -> None:
    limit = {"scope": "key", "scope_id": "key_1", "metric": "a metric of tomorrow", "mode": None, "kind": "rate"}
    limit |= {"limit": 60, "used": 1, "held": 0, "left": 59, "resets_at": None, "window_s": 60}
    server.script(answer({"data": [limit]}))
    assert client.limits()[0].left == 59


def test_an_answer_that_something_changed(server: ScriptedServer, client: Museway) -> None:
    server.script(answer({"object": "list"}))
    with pytest.raises(InvalidAnswerError):
        client.models()


@pytest.mark.anyio
async def test_on_an_event_loop(server: ScriptedServer, async_client: AsyncMuseway) -> None:
    server.script(answer(completion()), answer({"object": "list", "data": [MODEL]}), answer({"data": []}))
    reply = await async_client.generate("x", mode="instant")
    assert isinstance(reply, Reply)
    assert reply.text == "42"
    assert [model.id for model in await async_client.models()] == ["muse"]
    assert await async_client.limits() == []


def test_both_clients_are_one_api() -> None:
    """The same methods with the same parameters."""
    for name, method in inspect.getmembers(Museway, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = inspect.signature(getattr(AsyncMuseway, name))
        assert list(inspect.signature(method).parameters) == list(twin.parameters), name


def test_settings_from_the_environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEWAY_API_KEY", "mw_env")
    monkeypatch.setenv("MUSEWAY_BASE_URL", server.url + "/v1/")
    server.script(answer({"data": []}))
    with Museway() as client:
        client.limits()
        assert "mw_env" not in repr(client)
    assert server.heard[0].path == "/v1/limits"
    assert server.heard[0].headers["authorization"] == "Bearer mw_env"


@pytest.mark.parametrize(
    ("key", "url"), [("", "http://x"), ("mw k", "http://x"), ("mw_k\n", "http://x"), ("mw_k", "ftp://x"), ("mw_k", "x")]
)
def test_unusable_settings(key: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSEWAY_API_KEY", raising=False)
    with pytest.raises(ConfigurationError):
        Museway(key, base_url=url)


def test_money_is_added_and_compared() -> None:
    assert Cost(1) + Cost(2) == Cost(3)
    assert Cost(1) < Cost(2)
    assert [str(Cost(n)) for n in (0, 1, 10**9, -5 * 10**8)] == ["$0.00", "$0.000000001", "$1.00", "-$0.50"]
