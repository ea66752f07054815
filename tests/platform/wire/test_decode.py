"""What a chat body becomes, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from museway_engine.completion import (
    CalledTool,
    Completion,
    Contemplating,
    Effort,
    Message,
    Mode,
    Sampling,
    ToolChoice,
)
from museway_platform.wire.chat.decode import ChatCall, decode_chat

NAMES: dict[str, tuple[str, Mode | None]] = {
    "muse": ("muse", None),
    "muse-instant": ("muse", Mode.INSTANT),
    "muse-thinking": ("muse", Mode.THINKING),
}
HELLO = [{"role": "user", "content": "Hello"}]
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def call(**fields: Any) -> ChatCall:
    body = {"model": "muse", "messages": HELLO, **fields}
    return decode_chat(json.dumps(body).encode(), request_id="req_1", names=NAMES)


def completion(**fields: Any) -> Completion:
    return call(**fields).completion


def test_the_least_body() -> None:
    expected = Completion(request_id="req_1", model="muse", messages=(Message(role="user", content="Hello"),))
    assert call() == ChatCall(completion=expected, model_as_asked="muse")


def test_null_is_absent() -> None:
    optional = ["stream", "tools", "stop", "temperature", "mode", "n", "response_format", "user", "stream_options"]
    assert call(**dict.fromkeys(optional)) == call()


def test_every_role() -> None:
    messages = completion(
        messages=[
            {"role": "system", "content": "Be brief.", "name": "s"},
            {"role": "developer", "content": [{"type": "text", "text": "No "}, {"type": "text", "text": "jokes."}]},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}], "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "audio": None,
                "function_call": None,
                "annotations": [],
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "assistant", "content": "It rains.", "reasoning_content": "A cloud."},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
            {"role": "assistant", "refusal": "I can't."},
        ]
    ).messages
    assert messages == (
        Message(role="system", content="Be brief.", name="s"),
        Message(role="developer", content="No jokes."),
        Message(role="user", content="Weather?", name="ann"),
        Message(role="assistant", tool_calls=(CalledTool("c1", "weather", "{}"),)),
        Message(role="tool", content="rain", tool_call_id="c1"),
        Message(role="assistant", content="It rains.", reasoning="A cloud."),
        Message(role="assistant", content="ab"),
        Message(role="assistant", content="I can't."),
    )


def test_sampling() -> None:
    given: dict[str, Any] = {
        "temperature": 1,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.1,
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "repetition_penalty": 1.1,
        "seed": -(2**63),
        "logit_bias": {"15": -100},
        "stop": ["a", "b"],
        "logprobs": True,
        "top_logprobs": 20,
    }
    expected: dict[str, Any] = {**given, "stop": ("a", "b")}
    assert completion(**given).sampling == Sampling(**expected)


def test_grammars() -> None:
    assert completion(regex="[0-9]+").sampling.regex == "[0-9]+"
    assert completion(ebnf='root ::= "a"').sampling.ebnf == 'root ::= "a"'


def test_one_stop() -> None:
    assert completion(stop="END").sampling.stop == ("END",)


def test_top_p_zero_is_the_likeliest_token() -> None:
    assert completion(top_p=0).sampling.top_p == pytest.approx(1e-6)


def test_tools() -> None:
    made = completion(tools=[{**WEATHER, "function": {**WEATHER["function"], "description": "d", "strict": True}}])
    (tool,) = made.tools
    assert (tool.name, tool.description, tool.strict) == ("weather", "d", True)
    assert tool.parameters is not None
    assert json.loads(bytes(tool.parameters)) == {"type": "object"}
    assert made.tool_choice == ToolChoice("auto")
    assert completion(tools=[WEATHER], parallel_tool_calls=False).parallel_tool_calls is False


def test_a_tool_without_parameters() -> None:
    for function in ({"name": "now"}, {"name": "now", "parameters": None}):
        (tool,) = completion(tools=[{"type": "function", "function": function}]).tools
        assert tool.parameters is None


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "weather"}}, ToolChoice("named", "weather")),
    ],
)
def test_tool_choice(given: object, choice: ToolChoice) -> None:
    assert completion(tools=[WEATHER], tool_choice=given).tool_choice == choice


def test_response_formats() -> None:
    assert completion(response_format={"type": "text"}).response_format.kind == "text"
    assert completion(response_format={"type": "json_object"}).response_format.kind == "json_object"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    made = completion(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    ).response_format
    assert (made.kind, made.name, made.strict) == ("json_schema", "x", True)
    assert made.schema is not None
    assert json.loads(bytes(made.schema)) == schema


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 7, "max_completion_tokens": 7}, 7),
    ],
)
def test_maxima(given: dict[str, int], most: int | None) -> None:
    assert completion(**given).max_tokens == most


@pytest.mark.parametrize(
    ("given", "mode", "effort"),
    [
        ({}, None, None),
        ({"mode": "contemplating"}, Mode.CONTEMPLATING, None),
        ({"model": "muse-thinking"}, Mode.THINKING, None),
        ({"model": "muse-thinking", "mode": "thinking"}, Mode.THINKING, None),
        ({"reasoning_effort": "none"}, Mode.INSTANT, Effort.NONE),
        ({"reasoning_effort": "high"}, None, Effort.HIGH),
        ({"model": "muse-thinking", "reasoning_effort": "none"}, Mode.THINKING, Effort.NONE),
        ({"mode": "auto", "reasoning_effort": "xhigh"}, Mode.AUTO, Effort.XHIGH),
    ],
)
def test_mode_over_alias_over_effort(given: dict[str, str], mode: Mode | None, effort: Effort | None) -> None:
    made = completion(**given)
    assert (made.model, made.mode, made.effort) == ("muse", mode, effort)
    assert call(**given).model_as_asked == given.get("model", "muse")


def test_contemplating() -> None:
    options = {"agents": 16, "rounds": 0, "agent_max_tokens": 64, "economy": True, "compose": "select"}
    expected = Contemplating(agents=16, rounds=0, agent_max_tokens=64, economy=True, compose="select")
    assert completion(contemplating=options).contemplating == expected
    assert completion(contemplating={}).contemplating == Contemplating()


def test_streaming() -> None:
    made = call(stream=True, stream_options={"include_usage": True, "include_obfuscation": False})
    assert made.completion.stream and made.include_usage
    assert not call(stream=True).include_usage
    assert call(stream=True, museway_progress=True).progress


def test_bounds_of_the_caller() -> None:
    made = call(max_cost_nano_usd=0, deadline_ms=1500, n=16, prompt_cache_key="k")
    assert (made.max_cost_nano_usd, made.completion.deadline_ms, made.completion.n) == (0, 1500, 16)
    assert made.completion.affinity == "k"


def test_accepted_without_effect() -> None:
    without_effect: dict[str, Any] = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "safety_identifier": "s",
    }
    assert call(**without_effect) == call()
