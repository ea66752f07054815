"""From a refusal to what a client reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from museway_billing.journal import JournalBroken, JournalFull
from museway_engine.allowance import AllowanceRefused
from museway_engine.errors import ContextTooLong, DeadlinePassed, InvalidForModel, NoWorker, WorkerLost, WorkerTimeout
from museway_platform.api.errors import (
    TABLE,
    ApiError,
    body_too_large,
    encode_error,
    invalid_api_key,
    method_not_allowed,
    not_available,
    to_api_error,
)
from museway_platform.api.refused import usd
from museway_platform.identity.directory import DirectoryUnavailable
from museway_platform.limits.limiter import LimitState, Refused, Subject
from museway_platform.serving.refusals import Denied, Draining, OverMaxCost
from museway_platform.wire.refusals import BadRequest, UnknownModel
from traffic import validator

LOST = WorkerLost("http://10.0.0.7:30000", delivered=False, cause="/srv/secret/path.py")


def state(**fields: Any) -> LimitState:
    given: dict[str, Any] = {
        "scope": "key",
        "scope_id": "key_1",
        "metric": "requests",
        "mode": None,
        "kind": "rate",
        "limit": 60,
        "used": 58,
        "held": 2,
        "left": 0,
        "resets_at": None,
        "window_s": 60,
        **fields,
    }
    return LimitState(**given)


def denied(asked: int, retry_after_s: float | None, *states: LimitState, **fields: Any) -> ApiError:
    refused = Refused(state=state(**fields), asked=asked, retry_after_s=retry_after_s)
    return to_api_error(Denied(refused, Subject("org_1", "prj_1", "key_1", "instant"), states))


@pytest.mark.parametrize(
    ("cause", "status", "code"),
    [
        (BadRequest("m", param="n", code="invalid_type"), 400, "invalid_type"),
        (UnknownModel("x"), 404, "model_not_found"),
        (InvalidForModel("m", param="tools"), 400, "invalid_request"),
        (InvalidForModel("m", code="n_not_allowed"), 400, "n_not_allowed"),
        (ContextTooLong(prompt=9, context=8), 400, "context_length_exceeded"),
        (OverMaxCost(least=9, max_cost=8), 400, "max_cost_too_low"),
        (AllowanceRefused(), 400, "max_cost_too_low"),
        (NoWorker(2.1), 503, "engine_unavailable"),
        (NoWorker(2.1, queue_full=True), 503, "engine_overloaded"),
        (LOST, 502, "engine_lost"),
        (WorkerTimeout("w", delivered=False, cause="c"), 504, "engine_timeout"),
        (DeadlinePassed(), 504, "deadline_exceeded"),
        (JournalFull("slots"), 503, "journal_full"),
        (JournalBroken(), 503, "journal_unavailable"),
        (DirectoryUnavailable(), 503, "directory_unavailable"),
        (Draining(), 503, "shutting_down"),
        (invalid_api_key("revoked"), 401, "invalid_api_key"),
        (not_available("/v1/batches"), 404, "not_available"),
        (method_not_allowed("GET"), 405, "method_not_allowed"),
        (body_too_large(9), 413, "body_too_large"),
        (KeyError("secret"), 500, "internal_error"),
    ],
)
def test_status_and_code(cause: Exception, status: int, code: str) -> None:
    error = to_api_error(cause)
    assert (error.status, error.code) == (status, code)
    body = json.loads(encode_error(error, "req_1"))
    assert list(validator("ErrorResponse").iter_errors(body)) == []  # pyright: ignore[reportUnknownMemberType]
    assert body["request_id"] == "req_1"
    assert set(body["error"]) == {"message", "type", "param", "code", "doc_url"}


@pytest.mark.parametrize("cause", [LOST, KeyError("secret"), JournalFull("/srv/secret")])
def test_no_cause_reaches_the_client(cause: Exception) -> None:
    body = encode_error(to_api_error(cause), "req_1")
    assert b"secret" not in body and b"10.0.0.7" not in body


def test_a_refusal_has_the_tightest_limits_of_the_caller_in_every_dialect() -> None:
    error = denied(
        1,
        1.2,
        state(metric="requests", limit=60, left=0),
        state(metric="requests", scope="organization", limit=1000, left=900),
        state(metric="input_tokens", limit=1000, left=500),
        state(metric="output_tokens", limit=1000, left=100),
        state(metric="output_tokens", mode="thinking", limit=1000, left=0),
        state(metric="spend", kind="cap", limit=1000, left=0),
    )
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.headers["x-ratelimit-remaining-tokens"] == "100", "of the output, in this mode"
    assert error.headers["ratelimit"] == '"requests";r=0;t=0, "tokens";r=100;t=0'
    assert error.headers["ratelimit-policy"] == '"requests";q=60;w=60, "tokens";q=1000;w=60'
    assert error.headers["retry-after"] == "2"


def test_a_rate_says_which_limit_of_whom_and_when() -> None:
    error = denied(1, 1.2)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.headers == {"retry-after": "2"}
    assert error.message == (
        "Rate limit reached: requests per minute of key key_1: 60 of 60 used, 1 asked. Try again in 1.2 s."
    )


def test_a_rate_that_is_too_small_is_never_retried() -> None:
    error = denied(1000, None, metric="input_tokens", scope="organization", scope_id="org_1", mode="thinking")
    assert error.headers == {"x-should-retry": "false"}
    assert "organization org_1 in mode thinking" in error.message
    assert "waiting does not help" in error.message


def test_a_cap_says_when_it_resets() -> None:
    error = denied(
        300,
        5000.0,
        kind="cap",
        metric="spend",
        limit=10**9,
        used=999_999_000,
        held=900,
        left=100,
        resets_at=1_800_000_000.0,
    )
    assert (error.status, error.code) == (402, "cap_reached")
    assert error.headers == {"x-should-retry": "false", "retry-after": "5000"}
    assert error.message == (
        "The spending cap of key key_1 is reached: $0.999999 used and $0.0000009 held of $1.00; this request needs "
        "$0.0000003. It resets at 2027-01-15 08:00 UTC."
    )


def test_credit_is_never_a_matter_of_waiting() -> None:
    error = denied(500, None, kind="credit", metric="credit", scope="organization", scope_id="org_1", left=20)
    assert (error.status, error.code) == (402, "insufficient_credit")
    assert error.headers == {"x-should-retry": "false"}
    assert "org_1" in error.message and "$0.0000005 needed" in error.message


def test_what_may_pass_has_a_time() -> None:
    for cause in (NoWorker(0.2), NoWorker(7.5, queue_full=True), JournalFull("x"), Draining()):
        headers = to_api_error(cause).headers
        assert int(headers["retry-after"]) >= 1
        assert "x-should-retry" not in headers


def test_no_row_promises_a_retry_that_is_a_refusal() -> None:
    for code, row in TABLE.items():
        assert row.retry == (
            row.status in (408, 429, 500, 502, 503) or code in ("engine_timeout", "request_in_progress")
        ), code


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "$0.00"), (1, "$0.000000001"), (1_500_000_000, "$1.50"), (-250_000_000, "-$0.25"), (10**15, "$1000000.00")],
)
def test_dollars_are_exact(nano: int, text: str) -> None:
    assert usd(nano) == text
