"""The same assertions over the fake worker and, marked `engine`, over real SGLang: what the gateway may rely on."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from doubles_tests.wire import Answer, JsonObject, call, next_event, opened

_CHAT = "/v1/chat/completions"
_COUNTS = {"include_usage": True, "continuous_usage_stats": True}
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]},
    },
}


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "real":
        return str(request.getfixturevalue("real_worker"))
    return str(request.getfixturevalue("fake_worker").url)


def _ask(content: str = "Count from one to ten in words.", **fields: Any) -> JsonObject:
    return {"model": "muse", "messages": [{"role": "user", "content": content}], "temperature": 0, **fields}


def _stream(url: str, **fields: Any) -> list[Any]:
    answer = call(url, _CHAT, _ask(stream=True, stream_options=_COUNTS, **fields))
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.events


def _ids(url: str, text: str) -> list[int]:
    tokens: list[int] = call(url, "/v1/tokenize", {"prompt": text}).json["tokens"]
    return tokens


def _new_rid() -> str:
    return f"req_{uuid.uuid4().hex[:26]}.a000000001"


def test_a_whole_answer_has_message_finish_and_usage(url: str) -> None:
    answer = call(url, _CHAT, _ask(max_tokens=5, rid=(rid := _new_rid()))).json
    assert answer["id"] == rid
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason", "matched_stop"}
    assert set(choice["message"]) == {"role", "content", "reasoning_content"}
    assert choice["finish_reason"] == "length"
    usage = answer["usage"]
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5
    assert usage["reasoning_tokens"] == 0
    assert usage["completion_tokens_details"] is None
    assert set(usage["prompt_tokens_details"]) == {"cached_tokens"}


def test_a_stream_is_role_content_finish_usage_done(url: str) -> None:
    role, *content, finish, usage, done = _stream(url, max_tokens=8)
    assert done == "[DONE]"
    assert role["choices"][0]["delta"] == {"reasoning_content": None, "role": "assistant", "content": ""}
    assert "usage" not in role
    assert set(role) == {"id", "object", "created", "model", "choices"}
    counts = [chunk["usage"]["completion_tokens"] for chunk in content]
    assert counts == sorted(set(counts)), "each content chunk counts more than the one before"
    assert all(chunk["choices"][0]["delta"]["content"] for chunk in content)
    assert finish["choices"][0]["finish_reason"] == "length"
    assert "usage" not in finish
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 8
    assert 0 <= usage["usage"]["completion_tokens"] - counts[-1] <= 1


def test_without_options_a_stream_has_no_usage(url: str) -> None:
    events = call(url, _CHAT, _ask(max_tokens=3, stream=True)).events
    assert all("usage" not in event for event in events[:-1])
    assert events[-2]["choices"][0]["finish_reason"] == "length"


def test_a_repeated_prompt_is_cached_but_for_its_last_token(url: str) -> None:
    salt = uuid.uuid4().hex
    first, second = (call(url, _CHAT, _ask(max_tokens=1, cache_salt=salt)).json["usage"] for _ in range(2))
    other = call(url, _CHAT, _ask(max_tokens=1, cache_salt=salt + "x")).json["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] == second["prompt_tokens"] - 1
    assert other["prompt_tokens_details"]["cached_tokens"] == 0


def test_tokenize_counts_what_chat_counts_and_ids_may_be_sent(url: str) -> None:
    ask = _ask()
    counted = call(url, "/v1/tokenize", {"model": "muse", "messages": ask["messages"]}).json
    assert counted["count"] == len(counted["tokens"])
    assert counted["max_model_len"] == 8192
    by_text = call(url, _CHAT, {**ask, "max_tokens": 4}).json
    stub = [{"role": "user", "content": "x"}]
    by_ids = call(url, _CHAT, {**ask, "messages": stub, "input_ids": counted["tokens"], "max_tokens": 4}).json
    assert by_text["usage"]["prompt_tokens"] == by_ids["usage"]["prompt_tokens"] == counted["count"]
    assert by_text["choices"][0]["message"] == by_ids["choices"][0]["message"]


def test_tokenize_follows_tools_thinking_and_the_generation_prompt(url: str) -> None:
    messages = _ask()["messages"]

    def count(**fields: Any) -> int:
        return int(call(url, "/v1/tokenize", {"model": "muse", "messages": messages, **fields}).json["count"])

    plain = count()
    assert count(tools=[_WEATHER]) > plain
    assert count(chat_template_kwargs={"enable_thinking": True}) > plain
    assert count(add_generation_prompt=False) < plain


@pytest.mark.parametrize("text", ["Hello world", "naïve 🙂 Grüße", " a\n\n  b\t", "x = {1: '2'}", "</think>"])
def test_ids_detokenize_exactly(url: str, text: str) -> None:
    ids = _ids(url, text)
    back = call(url, "/v1/detokenize", {"tokens": ids, "skip_special_tokens": False}).json
    assert back == {"text": text}


def test_generate_streams_increments_that_sum_to_the_whole(url: str) -> None:
    ids = _ids(url, "One, two, three,")
    sampling: JsonObject = {"max_new_tokens": 6, "temperature": 0}
    whole = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling}).json
    *events, done = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling, "stream": True}).events
    assert done == "[DONE]"
    assert "".join(event["text"] for event in events) == whole["text"]
    assert [i for event in events for i in event["output_ids"]] == whole["output_ids"]
    assert [event["meta_info"]["finish_reason"] for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1]["meta_info"]["finish_reason"] == {"type": "length", "length": 6}
    for event in (whole, events[-1]):
        assert event["meta_info"]["completion_tokens"] == 6
        assert event["meta_info"]["prompt_tokens"] == len(ids)
        assert event["meta_info"]["reasoning_tokens"] == 0


@pytest.mark.parametrize("keep", [False, True])
def test_a_stop_text_ends_a_generation_and_is_cut_off(url: str, keep: bool) -> None:
    ids = _ids(url, "One, two, three,")
    sampling: JsonObject = {"max_new_tokens": 6, "temperature": 0}
    free = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling}).json
    stop = free["text"].split()[1]
    sampling |= {"stop": [stop], "no_stop_trim": keep}
    *events, _ = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling, "stream": True}).events
    text = "".join(event["text"] for event in events)
    assert events[-1]["meta_info"]["finish_reason"] == {"type": "stop", "matched": stop}
    assert (stop in text) == keep
    assert free["text"].startswith(text)
    ids_out = [i for event in events for i in event["output_ids"]]
    assert len(ids_out) == events[-1]["meta_info"]["completion_tokens"]
    assert ids_out == free["output_ids"][: len(ids_out)]


def test_a_text_that_may_become_the_stop_text_is_held_back(url: str) -> None:
    ids = _ids(url, "One, two, three,")
    sampling: JsonObject = {"max_new_tokens": 6, "temperature": 0}
    free = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling}).json
    first, second = free["text"].split()[:2]
    stop = free["text"][free["text"].index(first) : free["text"].index(second) + len(second)]
    sampling |= {"stop": [stop]}
    *events, _ = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling, "stream": True}).events
    assert events[-1]["meta_info"]["finish_reason"] == {"type": "stop", "matched": stop}
    assert len(events[-1]["output_ids"]) > 1
    assert "".join(event["text"] for event in events).strip() == ""


def test_a_stop_token_ends_a_generation_and_stays_in_the_ids(url: str) -> None:
    ids = _ids(url, "One, two, three,")
    sampling: JsonObject = {"max_new_tokens": 6, "temperature": 0}
    free = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling}).json
    token = free["output_ids"][2]
    sampling |= {"stop_token_ids": [token]}
    stopped = call(url, "/generate", {"input_ids": ids, "sampling_params": sampling}).json
    assert stopped["meta_info"]["finish_reason"] == {"type": "stop", "matched": token}
    assert stopped["output_ids"][-1] == token
    assert free["text"].startswith(stopped["text"])
    assert stopped["text"] != free["text"]


def test_logprobs_stand_beside_their_tokens(url: str) -> None:
    *chunks, _finish, _usage, _done = _stream(url, max_tokens=3, logprobs=True, top_logprobs=2)
    for chunk in chunks[1:]:
        (choice,) = chunk["choices"]
        assert set(choice["logprobs"]) == {"content"}
        (token,) = choice["logprobs"]["content"]
        assert set(token) == {"token", "bytes", "logprob", "top_logprobs"}
        assert len(token["top_logprobs"]) == 2
        assert token["logprob"] <= 0
    body = {"text": "One,", "sampling_params": {"max_new_tokens": 2}, "return_logprob": True, "stream": True}
    *events, _ = call(url, "/generate", body).events
    rows = [row for event in events for row in event["meta_info"]["output_token_logprobs"]]
    assert [row[1] for row in rows] == [i for event in events for i in event["output_ids"]]
    assert events[-1]["meta_info"]["output_token_logprobs_length"] == 2


def test_several_choices_count_the_prompt_once(url: str) -> None:
    events = _stream(url, max_tokens=4, n=2)
    usage = events[-2]["usage"]
    assert usage["completion_tokens"] == 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    chunks = [event for event in events[:-2] if event["choices"]]
    assert {chunk["choices"][0]["index"] for chunk in chunks} == {0, 1}
    assert len({chunk["id"] for chunk in chunks}) == 2


def test_a_required_tool_call_streams_its_name_then_its_arguments(url: str) -> None:
    events = _stream(url, max_tokens=80, tools=[_WEATHER], tool_choice="required")
    calls = [event["choices"][0]["delta"]["tool_calls"][0] for event in events[1:-3]]
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert calls[0]["id"].startswith("call_")
    assert all(call["id"] is None and call["function"]["name"] is None for call in calls[1:])
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "Paris"}
    assert events[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-2]["usage"]["completion_tokens"] >= events[-4]["usage"]["completion_tokens"]


def test_a_schema_is_kept(url: str) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = call(url, _CHAT, _ask(max_tokens=40, response_format=wanted)).json
    assert list(json.loads(answer["choices"][0]["message"]["content"])) == ["yes"]


def test_a_thinking_budget_is_kept_and_the_close_tag_counts(url: str) -> None:
    fields: JsonObject = {"chat_template_kwargs": {"enable_thinking": True}, "custom_params": {"thinking_budget": 4}}
    events = _stream(url, max_tokens=16, **fields)
    close = len(_ids(url, "</think>"))
    assert events[-2]["usage"]["reasoning_tokens"] == 4 + close
    deltas = [event["choices"][0]["delta"] for event in events[1:-3]]
    assert deltas[0]["reasoning_content"]
    assert "content" not in deltas[0]
    assert deltas[-1]["content"]
    assert "</think>" not in "".join((d.get("reasoning_content") or "") + (d.get("content") or "") for d in deltas)
    merged = call(url, _CHAT, _ask(max_tokens=16, separate_reasoning=False, **fields)).json
    assert "</think>" in merged["choices"][0]["message"]["content"]
    assert merged["usage"]["reasoning_tokens"] == 4 + close


def _started(url: str, path: str, body: JsonObject, then: Callable[[], None]) -> list[Any]:
    """The events of a stream on which `then` is called after the fourth."""
    with opened(url, path, body) as response:
        events = [next_event(response) for _ in range(4)]
        then()
        while events[-1] != "[DONE]":
            events.append(next_event(response))
        return events


@pytest.mark.parametrize("path", [_CHAT, "/generate"])
def test_an_abort_ends_a_stream_with_its_counts(url: str, path: str) -> None:
    rid = _new_rid()
    body = _ask(max_tokens=2000, ignore_eos=True, rid=rid, stream=True, stream_options=_COUNTS)
    if path == "/generate":
        sampling = {"max_new_tokens": 2000, "ignore_eos": True}
        body = {"text": "One, two,", "rid": rid, "stream": True, "sampling_params": sampling}
    before = _made(url)

    def abort() -> None:
        answer = call(url, "/abort_request", {"rid": rid})
        assert (answer.status, answer.body) == (200, b"")

    events = _started(url, path, body, abort)
    if path == _CHAT:
        assert events[-3]["choices"][0]["finish_reason"] == "abort"
        completion = events[-2]["usage"]["completion_tokens"]
        assert completion - events[-4]["usage"]["completion_tokens"] in (0, 1)
    else:
        assert events[-2]["meta_info"]["finish_reason"]["type"] == "abort"
        completion = events[-2]["meta_info"]["completion_tokens"]
        assert completion == sum(len(event["output_ids"]) for event in events[:-1])
    assert 0 < completion < 2000
    risen = _until(lambda: _made(url) - before, completion)
    # The real worker is shared with tests that run beside this one, and its counter is one for all.
    assert risen == completion or call(url, "/_book").status == 404


def _until(read: Callable[[], int], least: int) -> int:
    """The first value of at least `least`; the counter of a request follows its end."""
    ends = time.monotonic() + 20
    while (value := read()) < least:
        assert time.monotonic() < ends, "the counter did not rise so far"
    return value


def _made(url: str) -> int:
    """`sglang:generation_tokens_total`, all its series."""
    lines = call(url, "/metrics").body.decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("sglang:generation_tokens_total{")))


def test_a_client_that_leaves_ends_its_request(url: str) -> None:
    before = _made(url)
    with opened(url, _CHAT, _ask(max_tokens=2000, ignore_eos=True, stream=True, stream_options=_COUNTS)) as response:
        seen = [next_event(response) for _ in range(4)]
    read = seen[-1]["usage"]["completion_tokens"]
    made = _until(lambda: _made(url) - before, read)
    assert made < 2000


def test_an_abort_of_an_unknown_rid_is_answered_and_ends_nothing(url: str) -> None:
    rid = _new_rid()

    def abort_others() -> None:
        for body in ({"rid": rid[:-1]}, {"rid": "unknown"}, {"rid": ""}, {}):
            assert call(url, "/abort_request", body).status == 200

    body = _ask(max_tokens=12, ignore_eos=True, rid=rid, stream=True, stream_options=_COUNTS)
    events = _started(url, _CHAT, body, abort_others)
    assert events[-3]["choices"][0]["finish_reason"] == "length"


def test_a_living_rid_is_taken_once(url: str) -> None:
    rid = _new_rid()
    second: list[Answer] = []

    def again() -> None:
        second.append(call(url, _CHAT, _ask(rid=rid, stream=True)))
        second.append(call(url, "/generate", {"text": "a", "rid": rid}))
        call(url, "/abort_request", {"rid": rid})

    _started(url, _CHAT, _ask(max_tokens=2000, ignore_eos=True, rid=rid, stream=True, stream_options=_COUNTS), again)
    message = f"Duplicate request ID detected: {rid}"
    error = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    assert (second[0].status, second[0].json) == (400, error)
    assert (second[1].status, second[1].json) == (400, {"error": {"message": message}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": -1}, "max_new_tokens must be at least 0, got -1."),
        ({"temperature": -1}, "temperature must be a non-negative finite number, got -1.0."),
        ({"top_p": 2}, "top_p must be in (0, 1], got 2.0."),
        ({"max_tokens": 1_000_000}, "max_completion_tokens is too large: 1000000.This model supports at most 8192 "),
        ({"max_tokens": 8190}, "Requested token count exceeds the model's maximum context length of 8192 tokens."),
        ({"messages": []}, "Messages cannot be empty."),
        ({"temperature": "x"}, "1 validation error"),
        ({"stream": True, "temperature": -1}, "temperature must be a non-negative finite number, got -1.0."),
        ({"messages": [{"role": "user", "content": "a b " * 20_000}]}, "The input ("),
    ],
)
def test_a_bad_chat_request_is_refused_before_any_stream(url: str, fields: JsonObject, message: str) -> None:
    answer = call(url, _CHAT, {**_ask(), **fields})
    assert answer.status == 400
    assert set(answer.json) == {"object", "message", "type", "param", "code"}
    assert answer.json["message"].startswith(message)


def test_a_bad_generate_request_has_another_shape(url: str) -> None:
    body = {"text": "a", "sampling_params": {"max_new_tokens": -5}}
    message = "max_new_tokens must be at least 0, got -5."
    answer = call(url, "/generate", body)
    assert (answer.status, answer.json) == (400, {"error": {"message": message}})
    streamed = call(url, "/generate", {**body, "stream": True})
    error = {"message": message, "type": "invalid_request_error", "code": 400, "retryable": False}
    assert (streamed.status, streamed.events) == (200, [{"error": error}, "[DONE]"])


def test_odd_requests_that_are_answered(url: str) -> None:
    nothing = call(url, _CHAT, _ask(max_tokens=0)).json
    assert nothing["choices"][0]["finish_reason"] == "length"
    assert nothing["usage"]["completion_tokens"] == 0
    wrong = call(url, _CHAT, {**_ask(max_tokens=1, no_such_field=1), "model": "nope"}).json
    assert wrong["model"] == "nope"


def test_unknown_paths_and_methods(url: str) -> None:
    assert (call(url, "/nowhere").status, call(url, "/nowhere").json) == (404, {"detail": "Not Found"})
    assert (call(url, _CHAT).status, call(url, _CHAT).json) == (405, {"detail": "Method Not Allowed"})


def test_the_probes_tell_what_a_gateway_asks_at_its_start(url: str) -> None:
    assert (call(url, "/health").status, call(url, "/health").body) == (200, b"")
    (model,) = call(url, "/v1/models").json["data"]
    assert (model["id"], model["max_model_len"]) == ("muse", 8192)
    info = call(url, "/server_info").json
    assert info["incremental_streaming_output"] is True
    assert info["schedule_policy"] == "fcfs"
    assert info["version"] == "0.5.23"
    assert {"page_size", "max_running_requests", "enable_cache_report", "context_length"} <= set(info)
    assert {"model_path", "served_model_name", "reasoning_parser", "tool_call_parser"} <= set(
        call(url, "/model_info").json
    )
    (load,) = call(url, "/v1/loads").json["loads"]
    assert {"num_running_reqs", "num_waiting_reqs", "max_running_requests"} <= set(load)
    gauges = [line for line in call(url, "/metrics").body.decode().splitlines() if "num_running_reqs{" in line]
    assert any('priority=""' in line for line in gauges)
