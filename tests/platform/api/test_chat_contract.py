"""What a developer meets at `/v1/chat/completions`, through the real process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from doubles.worker_process import Behaviour, FakeWorker, Match
from gateway import Gateway, StartGateway
from museway_platform.identity.keys import mint

MESSAGES = [{"role": "user", "content": "Say something."}]
URL = "/v1/chat/completions"


@pytest.fixture
def gateway(start_gateway: StartGateway, fake_worker: FakeWorker) -> Gateway:
    return start_gateway([fake_worker.url])


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx2.Client]:
    with gateway.client(gateway.customer().secret) as opened:
        yield opened


def events(client: httpx2.Client, **body: Any) -> list[dict[str, Any]]:
    request = {"model": "muse", "messages": MESSAGES, "stream": True, **body}
    with client.stream("POST", URL, json=request) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_keys_are_refused_by_name(gateway: Gateway, fake_worker: FakeWorker) -> None:
    body = {"model": "muse", "messages": MESSAGES}
    unknown = mint("live")
    cases = {"": "missing", "Bearer junk": "form or checksum", f"Bearer {unknown}": "unknown", "Basic x": "missing"}
    for authorization in cases:
        headers = {"authorization": authorization} if authorization else {}
        answer = httpx2.post(gateway.url + URL, json=body, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert answer.headers["x-should-retry"] == "false"
    assert fake_worker.book("req_") == []


def test_a_revoked_key_is_refused_within_a_second(gateway: Gateway) -> None:
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        body = {"model": "muse", "messages": MESSAGES, "max_tokens": 3}
        assert client.post(URL, json=body).status_code == 200
        assert gateway.museway("keys", "revoke", customer.key).returncode == 0
        gateway.until(lambda: client.post(URL, json=body).status_code == 401, within_s=1.5)


def test_any_other_field_is_refused_by_name(client: httpx2.Client, fake_worker: FakeWorker) -> None:
    refused = ["lora_path", "custom_logit_processor", "cache_salt", "extra_key", "rid", "priority", "session_params"]
    for field in [*refused, "input_ids", "audio", "prediction", "nonsense"]:
        answer = client.post(URL, json={"model": "muse", "messages": MESSAGES, field: 1})
        assert answer.status_code == 400, field
        error = answer.json()["error"]
        assert error["param"] == field
        assert field in error["message"]
        assert error["code"] in ("unknown_parameter", "unsupported_parameter")
    assert fake_worker.book("req_") == []


def test_fields_without_effect_are_accepted(client: httpx2.Client) -> None:
    extra = {"user": "u1", "metadata": {"a": "b"}, "store": False, "parallel_tool_calls": True, "service_tier": "auto"}
    extra |= {"prompt_cache_key": "k", "safety_identifier": "s"}
    answer = client.post(URL, json={"model": "muse", "messages": MESSAGES, "max_tokens": 3, **extra})
    assert answer.status_code == 200, answer.text


def test_a_stream_says_what_it_cost(client: httpx2.Client) -> None:
    chunks = events(client, max_tokens=12)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert "usage" not in chunks[-1]
    assert chunks[-1]["museway"]["cost_nano_usd"] > 0
    with_usage = events(client, max_tokens=12, stream_options={"include_usage": True})
    assert with_usage[-1]["choices"] == []
    assert with_usage[-1]["usage"]["completion_tokens"] <= 12
    assert with_usage[-1]["museway"]["mode"] == "instant"
    assert all(chunk["usage"] is None for chunk in with_usage[:-1])


def test_thinking_streams_its_chain_apart(client: httpx2.Client) -> None:
    chunks = events(client, mode="thinking", max_tokens=150, reasoning_effort="low")
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    reasoning = [delta for delta in deltas if delta.get("reasoning_content")]
    answer = [delta for delta in deltas if delta.get("content")]
    assert reasoning
    assert answer
    assert deltas.index(reasoning[-1]) < deltas.index(answer[0])
    thinking = chunks[-1]["museway"]["thinking"]
    assert 0 < thinking["used"] <= thinking["budget"] <= 118


def test_contemplating_shows_its_agents_on_request(client: httpx2.Client, fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(text="It is so. FINAL: 42"), Match(phase="t"))
    fake_worker.script(Behaviour(tokens=10), Match(phase="s"))
    options = {"mode": "contemplating", "contemplating": {"agents": 4}, "max_tokens": 40}
    quiet = events(client, **options)
    assert all("museway" not in chunk for chunk in quiet[:-1])
    chunks = events(client, **options, museway_progress=True)
    progress = [chunk["museway"]["progress"] for chunk in chunks[:-1] if "museway" in chunk]
    assert {p["index"] for p in progress if p["type"] == "agent"} == {0, 1, 2, 3}
    assert [p["phase"] for p in progress if p["type"] == "phase"][-1] == "synthesis"
    agents = chunks[-1]["museway"]["agents"]
    assert {row["phase"] for row in agents} >= {"think", "synthesis"}
    assert chunks[-1]["museway"]["stop_reason"] == "agreement"


def test_modes_by_field_alias_and_effort(client: httpx2.Client) -> None:
    def mode(**body: Any) -> str:
        answer = client.post(URL, json={"model": "muse", "messages": MESSAGES, "max_tokens": 60, **body})
        assert answer.status_code == 200, answer.text
        ran: str = answer.json()["museway"]["mode"]
        return ran

    assert mode() == "instant"
    assert mode(model="muse-thinking") == "thinking"
    assert mode(mode="thinking") == "thinking"
    assert mode(reasoning_effort="high") == "thinking"
    assert mode(reasoning_effort="none") == "instant"
    assert mode(model="muse-contemplating", contemplating={"agents": 2}) == "contemplating"
    conflict = client.post(URL, json={"model": "muse-thinking", "mode": "instant", "messages": MESSAGES})
    assert conflict.status_code == 400
    assert "thinking" in conflict.json()["error"]["message"]
    assert "instant" in conflict.json()["error"]["message"]


def test_tools_json_schema_logprobs_and_choices(client: httpx2.Client) -> None:
    tool: dict[str, Any] = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
    called = client.post(URL, json={"model": "muse", "messages": MESSAGES, "tools": [tool], "tool_choice": "required"})
    (choice,) = called.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "look"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answered = client.post(URL, json={"model": "muse", "messages": MESSAGES, "response_format": form})
    assert isinstance(json.loads(answered.json()["choices"][0]["message"]["content"])["n"], int)
    scored = client.post(
        URL, json={"model": "muse", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2, "max_tokens": 4}
    )
    assert len(scored.json()["choices"][0]["logprobs"]["content"]) >= 1
    several = events(client, n=2, max_tokens=5)
    assert {chunk["choices"][0]["index"] for chunk in several} == {0, 1}


def test_limits_refuse_with_what_to_do(gateway: Gateway) -> None:
    customer = gateway.customer()
    done = gateway.museway("limits", "set", "--key", customer.key, "--metric", "requests", "--limit", "2")
    assert done.returncode == 0, done.stderr
    poor = gateway.customer(nano_usd=10)
    body = {"model": "muse", "messages": MESSAGES, "max_tokens": 3}
    with gateway.client(customer.secret) as client:
        gateway.until(lambda: bool(client.get("/v1/limits").json()["data"][:-1]), within_s=3)
        first = client.post(URL, json=body)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert '"requests";q=2' in first.headers["ratelimit-policy"]
        client.post(URL, json=body)
        refused = client.post(URL, json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert '"requests";r=0' in refused.headers["ratelimit"]
        assert customer.key in refused.json()["error"]["message"]
    with gateway.client(poor.secret) as client:
        refused = client.post(URL, json=body)
        assert refused.status_code == 402
        assert refused.json()["error"]["code"] == "insufficient_credit"
        assert refused.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.headers


def test_an_output_rate_refuses_rather_than_cuts_what_would_fit_later(
    gateway: Gateway, fake_worker: FakeWorker
) -> None:
    """What could never fit is cut to the limit: the caller's maximum is seldom what an answer takes."""
    customer = gateway.customer()
    limit = ("--metric", "output_tokens", "--limit", "6", "--burst", "100")
    assert gateway.museway("limits", "set", "--key", customer.key, *limit).returncode == 0
    fake_worker.script(Behaviour(tokens=200))
    with gateway.client(customer.secret) as client:

        def ask(max_tokens: int) -> httpx2.Response:
            return client.post(URL, json={"model": "muse", "messages": MESSAGES, "max_tokens": max_tokens})

        gateway.until(lambda: bool(client.get("/v1/limits").json()["data"][:-1]), within_s=3)
        cut = ask(150)
        assert cut.json()["usage"]["completion_tokens"] == 100
        refused = ask(50)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 60
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"


def test_why_was_i_limited(gateway: Gateway, fake_worker: FakeWorker) -> None:
    """The refusal is there with the counters of its moment, who held most, and how often; others don't see it."""
    customer, other = gateway.customer(), gateway.customer()
    metric = ("--metric", "concurrent_requests", "--limit", "1")
    assert gateway.museway("limits", "set", "--key", customer.key, *metric).returncode == 0
    fake_worker.script(Behaviour(delay_ms=50))
    body = {"model": "muse", "messages": MESSAGES, "max_tokens": 60, "stream": True}
    with gateway.client(customer.secret) as client:
        gateway.until(lambda: bool(client.get("/v1/limits").json()["data"][:-1]), within_s=3)
        with client.stream("POST", URL, json=body) as running:
            next(running.iter_lines())
            ids = [client.post(URL, json=body).headers["x-request-id"] for _ in range(3)]

        def told() -> int:
            return sum(one["times"] for one in client.get("/v1/limits/refusals").json()["data"])

        gateway.until(lambda: told() == 3, within_s=5)
        listed = client.get("/v1/limits/refusals", params={"key": customer.key}).json()
        assert client.get("/v1/limits/refusals?limit=0").status_code == 400
    refusals = listed["data"]
    assert refusals[-1]["request_id"] == ids[0]
    first = refusals[-1]
    assert (first["code"], first["metric"], first["scope_id"]) == (
        "rate_limit_exceeded",
        "concurrent_requests",
        customer.key,
    )
    assert (first["limit"], first["used"], first["asked"]) == (1, 1, 1)
    (holder,) = first["holders"]
    assert holder["key"] == customer.key and holder["requests"] == 1 and holder["amount_nano_usd"] > 0
    with gateway.client(other.secret) as client:
        assert client.get("/v1/limits/refusals").json() == {"data": [], "has_more": False}
    shown = gateway.museway("limits", "refusals", "--org", customer.organization.id, "--json")
    assert json.loads(shown.stdout)["data"][-1]["request_id"] == ids[0]


def test_a_cap_stops_its_key_only(gateway: Gateway) -> None:
    customer = gateway.customer()
    done = gateway.museway("caps", "set", "--key", customer.key, "--period", "month", "--usd", "0.000001")
    assert done.returncode == 0, done.stderr
    with gateway.client(customer.secret) as client:
        body = {"model": "muse", "messages": MESSAGES, "max_tokens": 30}
        gateway.until(lambda: client.post(URL, json=body).status_code == 402, within_s=3)
        refused = client.post(URL, json=body).json()["error"]
        assert refused["code"] == "cap_reached"
        assert "resets" in refused["message"]
        caps = [limit for limit in client.get("/v1/limits").json()["data"] if limit["kind"] == "cap"]
        assert caps[0]["scope_id"] == customer.key


def test_no_worker_is_a_503_with_retry_after(start_gateway: StartGateway) -> None:
    gateway = start_gateway(["http://127.0.0.1:9"], ready=False)
    gateway.until(lambda: httpx2.get(gateway.direct_url + "/healthz").status_code == 200, within_s=30)
    ready = httpx2.get(gateway.direct_url + "/readyz")
    assert ready.status_code == 503
    assert ready.json()["missing"][0]["part"] == "engine"
    with gateway.client(gateway.customer().secret) as client:
        answer = client.post(URL, json={"model": "muse", "messages": MESSAGES})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1


def test_a_worker_s_own_words_never_reach_a_customer(client: httpx2.Client, fake_worker: FakeWorker) -> None:
    for status in (400, 404, 422, 500, 503):
        fake_worker.script(Behaviour(status=status, message="/opt/secret/path.py line 3"), times=4)
        answer = client.post(URL, json={"model": "muse", "messages": MESSAGES})
        assert answer.status_code in (400, 502, 503), status
        assert "secret" not in answer.text
        fake_worker.reset()


def test_bad_bodies(client: httpx2.Client) -> None:
    def post(content: bytes, **headers: str) -> httpx2.Response:
        return client.post(URL, content=content, headers={"content-type": "application/json", **headers})

    for content in (b"", b"{", b"[]", b'{"model":"muse"}', b'{"model":"muse","messages":[]}', b"\xff\xfe", b"null"):
        assert post(content).status_code == 400, content
    assert post(b"[" * 100_000).status_code == 400
    assert post(b"{}", **{"content-type": "text/plain"}).status_code == 415
    assert post(b'{"model":"muse","messages":[{"role":"user","content":"%s"}]}' % (b"x" * (9 << 20))).status_code == 413
    missing = client.post(URL, json={"model": "gpt-4", "messages": MESSAGES})
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert client.get(URL).status_code == 405
    assert client.get("/v1/responses").json()["error"]["code"] == "not_available"
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
