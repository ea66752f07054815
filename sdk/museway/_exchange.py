"""One call with its retries, as a generator that never waits itself.

It yields what a driver is to do and is sent what came of it:

- `Send`: send the request and read the head. → `Head`, or the `MusewayError` that stopped it.
- `ReadBody`: read the rest of the answer whose head came last. → bytes, or the error.
- `Wait`: give up that answer, sleep. → None.

It returns an `Answered`, or raises the error that ends the call. Where `stream` is asked for, the answer's body is left
to the driver. `client` and `async_client` each have a driver; all decisions are here.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Generator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from museway import errors
from museway._call import Call
from museway.errors import ConflictError, InvalidAnswerError, MusewayError, status_error
from museway.retry import RetryPolicy

Result = TypeVar("Result")


class Send(Struct, frozen=True):
    """`target` is path and query. `timeout_s` is how long the server may be silent; None is the client's own."""

    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes | None
    timeout_s: float | None


class ReadBody(Struct, frozen=True):
    pass


class Wait(Struct, frozen=True):
    seconds: float


class Head(Struct, frozen=True):
    """Header names in lower case."""

    status: int
    headers: Mapping[str, str]


class Answered(Struct, frozen=True):
    head: Head
    body: bytes


Step = Send | ReadBody | Wait
Got = Head | bytes | MusewayError | None
Flow = Generator[Step, Got, Result]


class Attempt(Struct, frozen=True, kw_only=True):
    """How one call is made."""

    policy: RetryPolicy
    headers: Mapping[str, str]
    timeout_s: float | None = None
    idempotency_key: str | None = None
    stream: bool = False
    last_event_id: str | None = None


RETRY_COUNT: Final = "x-museway-retry-count"
IN_PROGRESS: Final = "request_in_progress"
IN_PROGRESS_TRIES: Final = 40
"""Another process of the server answers this request: one of so many connections reaches it, or finds the answer."""


def new_key() -> str:
    return f"museway-{uuid.uuid4()}"


def exchange(call: Call[Any], attempt: Attempt) -> Flow[Answered]:
    """Raises MusewayError: StatusError for a refusal, ConnectionError, TimeoutError."""
    headers = dict(attempt.headers)
    if call.method == "POST":
        headers["idempotency-key"] = attempt.idempotency_key or new_key()
    if attempt.last_event_id is not None:
        headers["last-event-id"] = attempt.last_event_id
    content = call.content()
    if content is not None:
        headers["content-type"] = "application/json"
    headers["accept"] = "text/event-stream" if attempt.stream else "application/json"
    tried = elsewhere = 0
    while True:
        headers[RETRY_COUNT] = str(tried + elsewhere)
        got = yield Send(call.method, call.target(), dict(headers), content, attempt.timeout_s)
        if isinstance(got, Head):
            answered = yield from _answer(call, attempt, got)
            if isinstance(answered, Answered):
                return answered
            got = answered
        assert isinstance(got, MusewayError)
        if isinstance(got, ConflictError) and got.code == IN_PROGRESS and elsewhere < IN_PROGRESS_TRIES:
            elsewhere += 1
            seconds = got.retry_after if attempt.policy.max_retries else None
        else:
            tried += 1
            seconds = attempt.policy.delay_s(tried, got, random.random)
        if seconds is None:
            raise got
        yield Wait(seconds)


def _answer(call: Call[Any], attempt: Attempt, head: Head) -> Flow[Answered | MusewayError]:
    """The answer of a head that came, or the error it is."""
    if attempt.stream and head.status in call.answers:
        if head.headers.get("content-type", "").startswith("text/event-stream"):
            return Answered(head, b"")
        return InvalidAnswerError("The server did not stream.", request_id=head.headers.get("x-request-id"))
    body = yield ReadBody()
    if not isinstance(body, bytes):
        return body if isinstance(body, MusewayError) else errors.ConnectionError("The answer did not come.")
    if head.status in call.answers:
        return Answered(head, body)
    return status_error(head.status, head.headers, body)


def read(call: Call[Result], answered: Answered) -> Result:
    """The typed answer. Raises InvalidAnswerError."""
    try:
        return call.read(answered.head.status, answered.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        request_id = answered.head.headers.get("x-request-id")
        raise InvalidAnswerError(f"The answer can't be read: {error}", request_id=request_id) from error


def ask(call: Call[Result], attempt: Attempt) -> Flow[Result]:
    """`exchange`, and its answer read."""
    return read(call, (yield from exchange(call, attempt)))
