"""The whole road on real SGLang: prefix cache across turns and gateway restarts, affinity, tenants, modes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import Gateway, StartGateway

pytestmark = pytest.mark.engine

SYSTEM = "You keep the tide tables of a northern harbour. Answer in few words. " * 12
CONVERSATIONS = 6


def turn(gateway: Gateway, secret: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    """Ask, and append the answer to the conversation."""
    with gateway.client(secret, timeout=120) as client:
        answer = client.post(
            "/v1/chat/completions", json={"model": "muse", "messages": messages, "max_tokens": 8, "temperature": 0}
        )
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    messages.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
    return body


def workers(gateway: Gateway) -> dict[str, str]:
    """Request → the worker that answered it."""
    return {line["request_id"]: line["worker"] for line in gateway.export()}


@pytest.mark.timeout(900)
def test_conversations_stay_with_their_worker(
    start_gateway: StartGateway, real_worker: str, second_real_worker: str
) -> None:
    """Two workers, 6 conversations x 3 turns with one system prompt; turns 2 and 3 find >= 90 % of the turn before, also
    after a gateway restart."""
    gateway = start_gateway([real_worker, second_real_worker])
    customer = gateway.customer()
    conversations: list[list[dict[str, str]]] = [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Harbour {number}: when is high water?"}]
        for number in range(CONVERSATIONS)
    ]
    before = [turn(gateway, customer.secret, messages) for messages in conversations]
    for number in (2, 3):
        if number == 3:
            gateway.stop()
            gateway.start()
        for index, messages in enumerate(conversations):
            messages.append({"role": "user", "content": f"And the one after, {number}?"})
            answer = turn(gateway, customer.secret, messages)
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached >= 0.9 * before[index]["usage"]["prompt_tokens"], (number, index, answer["usage"])
            before[index] = answer
    placed = workers(gateway)
    assert len(placed) == CONVERSATIONS * 3
    assert len(set(placed.values())) == 2, "all conversations went to one worker"


def test_agents_share_their_prefix(start_gateway: StartGateway, real_worker: str) -> None:
    """Agents 1..N-1 report cached >= the shared prefix less one page."""
    gateway = start_gateway([real_worker])
    customer = gateway.customer()
    question = "A barge carries " + ", ".join(f"{n} crates of salt" for n in range(60)) + ". What does it carry?"
    body = {
        "model": "muse",
        "messages": [{"role": "user", "content": question}],
        "mode": "contemplating",
        "contemplating": {"agents": 3, "agent_max_tokens": 24},
        "max_tokens": 24,
    }
    with gateway.client(customer.secret, timeout=120) as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    lines = gateway.drained_export(4)
    agents = sorted((line for line in lines if line["phase"] == "think"), key=lambda line: line["agent"])
    prompt = agents[0]["measured_input"] + agents[0]["measured_cached"]
    assert prompt > 256
    for line in agents[1:]:
        assert line["measured_cached"] >= prompt - 1 - 1
    assert answer.json()["museway"]["cost_nano_usd"] == sum(line["amount_nano_usd"] for line in lines)


def test_a_thinking_budget_is_exact_to_the_token(start_gateway: StartGateway, real_worker: str) -> None:
    gateway = start_gateway([real_worker])
    customer = gateway.customer()
    body = {
        "model": "muse-thinking",
        "messages": [{"role": "user", "content": "Count the letters of every word in this sentence, slowly."}],
        "reasoning_effort": "low",
        "max_tokens": 56,
    }
    with gateway.client(customer.secret, timeout=120) as client:
        answer = client.post("/v1/chat/completions", json=body).json()
    thinking = answer["museway"]["thinking"]
    assert thinking["budget"] == 24  # the maximum less the answer's floor of 32
    assert thinking["used"] <= 24
    think = next(line for line in gateway.drained_export(2) if line["phase"] == "think")
    assert think["reasoning"] == thinking["used"]
    assert answer["usage"]["completion_tokens"] <= 56
