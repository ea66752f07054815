"""From an answer that is a refusal to a typed error."""

from __future__ import annotations

import builtins
import json
import pickle

import pytest

import museway
from museway import errors
from museway.errors import StatusError, status_error
from museway_platform.api.errors import TABLE, ApiError, encode_error

KINDS = {
    400: museway.InvalidRequestError,
    401: museway.AuthenticationError,
    403: museway.PermissionDeniedError,
    404: museway.NotFoundError,
    405: museway.InvalidRequestError,
    408: museway.InvalidRequestError,
    409: museway.ConflictError,
    413: museway.InvalidRequestError,
    415: museway.InvalidRequestError,
    422: museway.InvalidRequestError,
    429: museway.RateLimitError,
}


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_code_of_the_server_has_a_type(code: str) -> None:
    error = ApiError(code, "What happened.", param="n", headers={"retry-after": "7"})
    caught = status_error(error.status, error.headers, encode_error(error, "req_1"))
    special = {
        "insufficient_credit": museway.InsufficientCreditError,
        "cap_reached": museway.CapReachedError,
        "stream_restarted": museway.StreamRestartedError,
    }
    assert type(caught) is (special.get(code) or KINDS.get(error.status) or museway.ServerError)
    assert (caught.status, caught.code, caught.param, caught.request_id) == (error.status, code, "n", "req_1")
    assert str(caught) == caught.message == "What happened."
    assert caught.retry_after == 7
    assert caught.should_retry is (None if TABLE[code].retry else False)
    assert caught.doc_url == f"/openapi.json#/x-errors/{code}"


@pytest.mark.parametrize("body", [b"", b"<html>502 Bad Gateway</html>", b"\xff", b"[]", b'{"error":"text"}'])
def test_a_proxys_page_is_its_status(body: bytes) -> None:
    error = status_error(502, {"x-request-id": "req_2"}, body)
    assert type(error) is museway.ServerError
    assert (error.message, error.request_id) == ("The server answered with status 502.", "req_2")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "2"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-4"}, 0.0),
        ({}, None),
    ],
)
def test_when_to_come_again(headers: dict[str, str], seconds: float | None) -> None:
    assert errors.hints(headers).retry_after == seconds


def test_a_code_of_tomorrow() -> None:
    body = json.dumps({"error": {"message": "m", "type": "t", "code": "new"}}).encode()
    assert type(status_error(402, {}, body)) is museway.PaymentRequiredError
    assert type(status_error(418, {}, body)) is museway.InvalidRequestError


def test_also_the_built_in_ones() -> None:
    assert issubclass(museway.ConnectionError, builtins.ConnectionError)
    assert issubclass(museway.TimeoutError, builtins.TimeoutError)
    assert issubclass(museway.TimeoutError, museway.ConnectionError)


def test_one_root() -> None:
    kinds = [kind for kind in vars(museway).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) == 20
    assert all(issubclass(kind, museway.MusewayError) for kind in kinds)


def test_errors_travel_between_processes() -> None:
    error = status_error(429, {"retry-after": "3"}, b"")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is museway.RateLimitError
    assert isinstance(again, StatusError)
    assert (again.status, again.retry_after, str(again)) == (429, 3.0, str(error))
