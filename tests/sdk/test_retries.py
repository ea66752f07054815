"""When a call is tried again, and that it stays one call."""

from __future__ import annotations

import pytest

from doubles.scripted_server import Scripted, ScriptedServer, answer, refusal, stream
from museway import (
    AsyncMuseway,
    ConflictError,
    ConnectionError,  # noqa: A004
    InvalidRequestError,
    Museway,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StatusError,
    TimeoutError,  # noqa: A004
)
from museway._operations import get_balance

BALANCE = {
    "organization": "org_1",
    "available_nano_usd": 5,
    "held_nano_usd": 1,
    "posted_nano_usd": 9,
    "undrained_nano_usd": 3,
    "as_of": "2026-11-24T00:00:00Z",
}
TOKENIZED = {"model": "muse", "count": 1, "tokens": [7]}
LOST = Scripted(refuse=True)


def test_what_passes_by_itself_is_tried_again(server: ScriptedServer, client: Museway) -> None:
    server.script(LOST, refusal(503, "engine_unavailable", retry_after="0"), answer(BALANCE))
    assert client.balance().available_nano_usd == 5
    assert [heard.headers["x-museway-retry-count"] for heard in server.heard] == ["0", "1", "2"]


@pytest.mark.anyio
async def test_also_on_an_event_loop(server: ScriptedServer, async_client: AsyncMuseway) -> None:
    server.script(LOST, refusal(503, "engine_unavailable"), answer(BALANCE))
    assert (await async_client.balance()).available_nano_usd == 5


def test_one_idempotency_key_a_call(server: ScriptedServer, client: Museway) -> None:
    server.script(LOST, answer(TOKENIZED), answer(TOKENIZED))
    client.tokenize("x")
    client.tokenize("x")
    first, again, other = (heard.headers["idempotency-key"] for heard in server.heard)
    assert first == again != other


def test_an_idempotency_key_of_ones_own(server: ScriptedServer, client: Museway) -> None:
    server.script(answer(TOKENIZED))
    client.tokenize("x", idempotency_key="mine")
    assert server.heard[0].headers["idempotency-key"] == "mine"
    assert "idempotency_key" not in server.heard[0].json


def test_a_get_has_no_idempotency_key(server: ScriptedServer, client: Museway) -> None:
    server.script(answer(BALANCE))
    client.balance()
    assert "idempotency-key" not in server.heard[0].headers


def test_retries_end(server: ScriptedServer, client: Museway) -> None:
    server.script(*[refusal(500, "internal_error")] * 3)
    with pytest.raises(ServerError) as caught:
        client.balance()
    assert (caught.value.status, caught.value.request_id) == (500, "req_9")
    server.script(LOST, LOST, LOST)
    with pytest.raises(ConnectionError):
        client.balance()


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (refusal(400, "invalid_type", "invalid_request_error"), InvalidRequestError),
        (refusal(409, "conflict"), ConflictError),
        (refusal(504, "deadline_exceeded", x_should_retry="false"), ServerError),
        (refusal(429, "rate_limit_exceeded", x_should_retry="false"), RateLimitError),
        (refusal(429, "rate_limit_exceeded", retry_after="3600"), RateLimitError),
    ],
)
def test_what_waiting_does_not_help_is_raised_at_once(
    refused: Scripted, kind: type[StatusError], server: ScriptedServer, client: Museway
) -> None:
    server.script(refused)
    with pytest.raises(kind):
        client.balance()
    assert len(server.heard) == 1


def test_what_another_process_answers_is_waited_for(server: ScriptedServer, client: Museway) -> None:
    in_progress = refusal(409, "request_in_progress", "invalid_request_error", retry_after="0")
    server.script(*[in_progress] * 8, answer(TOKENIZED))
    assert client.tokenize("x").count == 1
    with Museway("mw_k", base_url=server.url, max_retries=0) as impatient:
        server.script(in_progress)
        with pytest.raises(ConflictError):
            impatient.tokenize("x")


def test_the_server_may_ask_for_a_retry(server: ScriptedServer, client: Museway) -> None:
    server.script(refusal(400, "odd", x_should_retry="true"), answer(BALANCE))
    client.balance()


def test_a_stream_is_retried_until_it_begins(server: ScriptedServer, client: Museway) -> None:
    server.script(
        refusal(503, "engine_overloaded", retry_after="0"), stream(b'data: {"choices":[]}\n\ndata: [DONE]\n\n')
    )
    with client.stream("x") as events:
        list(events)
    assert len({heard.headers["idempotency-key"] for heard in server.heard}) == 1


def test_a_silent_server_is_a_timeout(server: ScriptedServer) -> None:
    server.script(Scripted(hang=True))
    with Museway("mw_k", base_url=server.url, max_retries=0) as client, pytest.raises(TimeoutError) as caught:
        client.call(get_balance(), timeout_s=0.05)
    assert isinstance(caught.value, ConnectionError)


class TestPolicy:
    """The decision alone."""

    def delays(self, policy: RetryPolicy, error: Exception, random: float = 0.0) -> list[float | None]:
        assert isinstance(error, StatusError | ConnectionError)
        return [policy.delay_s(tried, error, lambda: random) for tried in range(1, 7)]

    def test_doubles_up_to_a_bound(self) -> None:
        policy = RetryPolicy(max_retries=6, first_s=0.5, most_s=8)
        assert self.delays(policy, ConnectionError("x")) == [0.5, 1, 2, 4, 8, 8]

    def test_jitter_only_shortens(self) -> None:
        assert self.delays(RetryPolicy(max_retries=1), ConnectionError("x"), 1.0) == [0.375, *[None] * 5]
