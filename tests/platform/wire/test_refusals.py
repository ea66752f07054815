"""What is refused, by which name, with which code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from museway_engine.completion import Mode
from museway_platform.api.errors import TABLE
from museway_platform.wire.chat.decode import decode_chat
from museway_platform.wire.chat.unsupported import UNSUPPORTED
from museway_platform.wire.refusals import BadRequest, UnknownModel

NAMES: dict[str, tuple[str, Mode | None]] = {"muse": ("muse", None), "muse-thinking": ("muse", Mode.THINKING)}
HELLO = [{"role": "user", "content": "Hello"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def tool(name: str = "f", **fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **fields}}


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode_chat(body, request_id="req_1", names=NAMES)
    return caught.value


def refusal(**fields: Any) -> tuple[str, str | None]:
    error = refused(json.dumps({"model": "muse", "messages": HELLO, **fields}).encode())
    assert error.code in TABLE
    return error.code, error.param


TYPE, VALUE, MISSING = "invalid_type", "invalid_value", "missing_required_parameter"
UNKNOWN, UNSUPPORTED_CODE = "unknown_parameter", "unsupported_parameter"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"temperatur": 1}, UNKNOWN, "temperatur"),
    ({"stream": "yes"}, TYPE, "stream"),
    ({"stream": 1}, TYPE, "stream"),
    ({"temperature": 2.1}, VALUE, "temperature"),
    ({"temperature": "1"}, TYPE, "temperature"),
    ({"top_p": 1.01}, VALUE, "top_p"),
    ({"top_k": 0}, VALUE, "top_k"),
    ({"top_k": -2}, VALUE, "top_k"),
    ({"min_p": -0.1}, VALUE, "min_p"),
    ({"presence_penalty": 3}, VALUE, "presence_penalty"),
    ({"frequency_penalty": -3}, VALUE, "frequency_penalty"),
    ({"repetition_penalty": 0}, VALUE, "repetition_penalty"),
    ({"seed": 2**63}, VALUE, "seed"),
    ({"seed": 1.5}, TYPE, "seed"),
    ({"n": 0}, VALUE, "n"),
    ({"n": 17}, VALUE, "n"),
    ({"max_tokens": 0}, VALUE, "max_tokens"),
    ({"max_tokens": 2**31}, VALUE, "max_tokens"),
    ({"max_completion_tokens": -1}, VALUE, "max_completion_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, VALUE, "max_tokens"),
    ({"stop": ["a"] * 5}, VALUE, "stop"),
    ({"stop": ""}, VALUE, "stop"),
    ({"stop": ["a", ""]}, VALUE, "stop[1]"),
    ({"top_logprobs": 21, "logprobs": True}, VALUE, "top_logprobs"),
    ({"top_logprobs": 1}, VALUE, "top_logprobs"),
    ({"logit_bias": {"x": 1}}, VALUE, "logit_bias"),
    ({"logit_bias": {"1": 101}}, VALUE, "logit_bias[...]"),
    ({"mode": "pro"}, VALUE, "mode"),
    ({"reasoning_effort": "extreme"}, VALUE, "reasoning_effort"),
    ({"contemplating": {"agents": 17}}, VALUE, "contemplating.agents"),
    ({"contemplating": {"rounds": 4}}, VALUE, "contemplating.rounds"),
    ({"contemplating": {"compose": "vote"}}, VALUE, "contemplating.compose"),
    ({"contemplating": {"agent": 3}}, UNKNOWN, "contemplating.agent"),
    ({"max_cost_nano_usd": -1}, VALUE, "max_cost_nano_usd"),
    ({"max_cost_nano_usd": 1.0}, TYPE, "max_cost_nano_usd"),
    ({"deadline_ms": 0}, VALUE, "deadline_ms"),
    ({"model": "muse-thinking", "mode": "instant"}, "mode_conflict", "mode"),
    ({"messages": []}, VALUE, "messages"),
    ({"messages": "hello"}, TYPE, "messages"),
    ({"messages": [{"content": "x"}]}, MISSING, "messages[0].role"),
    ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, VALUE, "messages[0].role"),
    ({"messages": [*HELLO, {"role": "user"}]}, MISSING, "messages[1].content"),
    ({"messages": [{"role": "user", "content": None}]}, TYPE, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, VALUE, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}]},
        VALUE,
        "messages[0].content[1].type",
    ),
    ({"messages": [{"role": "user", "content": "x", "audio": {}}]}, UNSUPPORTED_CODE, "messages[0].audio"),
    ({"messages": [{"role": "assistant"}]}, MISSING, "messages[0].content"),
    ({"messages": [{"role": "assistant", "tool_calls": []}]}, MISSING, "messages[0].content"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]},
        VALUE,
        "messages[0].tool_calls[0].type",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, MISSING, "messages[0].tool_call_id"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, VALUE, "tools[0].type"),
    ({"tools": [tool("a b")]}, VALUE, "tools[0].function.name"),
    ({"tools": [tool(parameters=[])]}, TYPE, "tools[0].function.parameters"),
    ({"tools": [tool(), tool()]}, VALUE, "tools"),
    ({"tools": [tool()] * 129}, VALUE, "tools"),
    ({"tool_choice": "required"}, VALUE, "tool_choice"),
    ({"tool_choice": "any"}, VALUE, "tool_choice"),
    ({"tools": [tool()], "tool_choice": tool("g")}, VALUE, "tool_choice.function.name"),
    ({"response_format": {"type": "xml"}}, VALUE, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, MISSING, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 3}}},
        TYPE,
        "response_format.json_schema.schema",
    ),
    ({"response_format": {"type": "json_object"}, "regex": "a"}, VALUE, "regex"),
    ({"regex": "a", "ebnf": "b"}, VALUE, "ebnf"),
    ({"stream_options": {"include_usage": True}}, VALUE, "stream_options"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        UNSUPPORTED_CODE,
        "stream_options.include_obfuscation",
    ),
    ({"store": True}, UNSUPPORTED_CODE, "store"),
    ({"service_tier": "flex"}, VALUE, "service_tier"),
    ({"safety_identifier": "x" * 65}, VALUE, "safety_identifier"),
    ({"metadata": {str(i): "x" for i in range(17)}}, VALUE, "metadata"),
    ({"metadata": {"k" * 65: "x"}}, VALUE, "metadata"),
    ({"metadata": {"a": 1}}, TYPE, "metadata[...]"),
    ({"model": ""}, VALUE, "model"),
    ({"model": None}, TYPE, "model"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_refused_by_name(fields: dict[str, Any], code: str, param: str) -> None:
    assert refusal(**fields) == (code, param)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_fields_of_others_are_refused_with_a_reason(name: str) -> None:
    error = refused(json.dumps({"model": "muse", "messages": HELLO, name: None}).encode())
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert UNSUPPORTED[name] in error.message


def test_a_conflict_names_both() -> None:
    error = refused(json.dumps({"model": "muse-thinking", "mode": "instant", "messages": HELLO}).encode())
    assert "'instant'" in error.message and "'muse-thinking'" in error.message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": "pro"}, "'auto', 'contemplating', 'instant', 'thinking'"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "'assistant', 'developer', 'system', 'tool', 'user'"),
        ({"tool_choice": "any"}, "'auto', 'none', 'required'"),
        ({"response_format": {"type": "xml"}}, "'json_object', 'json_schema', 'text'"),
        ({"tools": [{"type": "custom"}]}, "'function'"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(fields: dict[str, Any], words: str) -> None:
    error = refused(json.dumps({"model": "muse", "messages": HELLO, **fields}).encode())
    assert error.message.endswith(f"is not one of {words}.")


def test_a_near_miss_gets_a_hint() -> None:
    error = refused(b'{"max_token": 1}')
    assert error.message == "Unknown parameter: 'max_token'. Did you mean 'max_tokens'?"


def test_unknown_model() -> None:
    with pytest.raises(UnknownModel) as caught:
        decode_chat(b'{"model":"gpt","messages":[{"role":"user","content":"x"}]}', request_id="r", names=NAMES)
    assert caught.value.model == "gpt"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="not utf-8"),
        pytest.param(b'{"model":"\xff"}', id="not utf-8 in a string"),
        pytest.param(b'{"model":"\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"model":"\\udc00"}', id="lone low surrogate"),
        pytest.param(b'{"model":"\xed\xa0\x80"}', id="encoded surrogate"),
        pytest.param(b'{"temperature":NaN}', id="NaN"),
        pytest.param(b'{"temperature":Infinity}', id="Infinity"),
        pytest.param(b'{"model":"muse","messages":[{"role":"user","content":"x"}]}}', id="trailing"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b'{"model":"a","model":"muse","messages":[{"role":"user","content":"x"}]}', id="key twice"),
        pytest.param(
            b'{"model":"muse","messages":[{"role":"user","content":"x","content":"y"}]}', id="key twice inside"
        ),
        pytest.param(
            b'{"model":"muse","messages":[{"role":"user","content":"x"}],"metadata":{"a":"1","\\u0061":"2"}}',
            id="key twice, escaped",
        ),
    ],
)
def test_not_our_json(body: bytes) -> None:
    assert refused(body).code == "invalid_json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"messages":[', b'{"messages":[{"role":"user","content":['])
def test_depth_without_end(opening: bytes) -> None:
    refused(opening * 200_000)


@pytest.mark.parametrize(("levels", "accepted"), [(64, True), (65, False), (900, False)])
def test_depth_of_a_schema(levels: int, accepted: bool) -> None:
    schema = b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)
    body = (
        b'{"model":"muse","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        b'{"name":"f","parameters":%b}}]}' % schema
    )
    if accepted:
        assert decode_chat(body, request_id="r", names=NAMES).completion.tools
    else:
        assert refused(body).param in ("tools[0].function.parameters", None)


def test_numbers_without_end() -> None:
    for digits in (b"9" * 5000, b"1e999", b"-" + b"9" * 400, b"0." + b"9" * 5000 + b"e9999"):
        refused(b'{"model":"muse","messages":[{"role":"user","content":"x"}],"max_tokens":%b}' % digits)


def test_messages_never_echo_without_end() -> None:
    for body in (b'{"%b":1}' % (b"x" * 100_000), b'{"mode":"%b"}' % (b"x" * 100_000)):
        assert len(refused(body).message) < 400


def test_many_keys_are_searched_in_one_pass() -> None:
    """Quadratic work on what a stranger sends would be a way to stop the process."""
    keys = b",".join(b'"k%d":1' % number for number in range(200_000))
    body = b'{"model":"muse","messages":[{"role":"user","content":"x"}],"logit_bias":{%b,"k199999":2}}' % keys
    assert refused(body).param == "k199999"
