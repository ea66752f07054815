"""What can go wrong, by type. Every error has `request_id` where a server gave one: quote it when you ask about it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import msgspec

from museway.reply import Reply


class MusewayError(Exception):
    """Base of all errors of this package."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes, whatever their constructors take."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[MusewayError], args: tuple[Any, ...], state: dict[str, Any]) -> MusewayError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(MusewayError):
    """The client can't be used as it was made: no key, no usable base URL, a missing extra."""


class ConnectionError(MusewayError, builtins.ConnectionError):  # noqa: A001 (also caught as the built-in one)
    """The server could not be reached, or the connection broke. Retries are over by then."""


class TimeoutError(ConnectionError, builtins.TimeoutError):  # noqa: A001 (also caught as the built-in one)
    """The server did not answer in time. Retries are over by then."""


class StreamInterruptedError(ConnectionError):
    """A stream ended before its end. `partial` is what had come: its `usage` and `cost` may be unknown."""

    def __init__(self, message: str, *, partial: Reply, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.partial = partial


class InvalidAnswerError(MusewayError):
    """The server's answer is not what its status promises; something between may have changed it."""


class ReceiptPendingError(MusewayError):
    """The records of a request were still on their way when the time to wait for its receipt was over."""


class InvalidReceiptError(MusewayError):
    """A receipt's signature or sums are wrong."""


class StatusError(MusewayError):
    """The server refused. `code` is one of the document's `x-errors`, `param` the path of the field that is meant.

    `retry_after` is in seconds, None where the server named no time. `should_retry` is False where the same request can
    never succeed, None where the server did not say.
    """

    def __init__(self, message: str, *, status: int, detail: ErrorDetail, request_id: str | None, hints: Hints) -> None:
        super().__init__(message, request_id=request_id)
        self.status = status
        self.code = detail.code
        self.type = detail.type
        self.param = detail.param
        self.doc_url = detail.doc_url
        self.retry_after = hints.retry_after
        self.should_retry = hints.should_retry


class InvalidRequestError(StatusError):
    """400, 405, 413, 415, 422: the request itself."""


class AuthenticationError(StatusError):
    """401: the API key."""


class PaymentRequiredError(StatusError):
    """402: money. The two kinds below; this one itself only for a code that this version does not know."""


class InsufficientCreditError(PaymentRequiredError):
    """The organization's credit does not cover the request."""


class CapReachedError(PaymentRequiredError):
    """A spending cap leaves no room for the request."""


class PermissionDeniedError(StatusError):
    """403: the key may not do this."""


class NotFoundError(StatusError):
    """404: no such model, object or route."""


class ConflictError(StatusError):
    """409: the same Idempotency-Key is in use."""


class StreamRestartedError(ConflictError):
    """409 `stream_restarted`: a stream broke off and can't be resumed. What came of it is in the stream's `partial`, and
    must not be joined to another answer. Ask again, with a new Idempotency-Key or the same: it will be a new answer.
    """


class RateLimitError(StatusError):
    """429: `retry_after` says when there is room; None where the request is larger than the limit."""


class ServerError(StatusError):
    """5xx: the server or the model."""


class ErrorDetail(msgspec.Struct):
    """OpenAI's error object; every field may be missing where a proxy answered."""

    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None
    doc_url: str | None = None


class Hints(msgspec.Struct):
    """What the headers say of trying again."""

    retry_after: float | None = None
    should_retry: bool | None = None


class _Body(msgspec.Struct):
    error: ErrorDetail
    request_id: str | None = None


_body = msgspec.json.Decoder(_Body)

_BY_STATUS: Mapping[int, type[StatusError]] = {
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitError,
}
_BY_CODE: Mapping[str, type[StatusError]] = {
    "insufficient_credit": InsufficientCreditError,
    "cap_reached": CapReachedError,
    "stream_restarted": StreamRestartedError,
    "rate_limit_exceeded": RateLimitError,
    "invalid_api_key": AuthenticationError,
    "permission_denied": PermissionDeniedError,
}


def hints(headers: Mapping[str, str]) -> Hints:
    """From `retry-after-ms`, `retry-after` (seconds only) and `x-should-retry`; what does not parse is not said."""
    after = _seconds(headers.get("retry-after-ms"), 1000) or _seconds(headers.get("retry-after"), 1)
    said = headers.get("x-should-retry")
    return Hints(after, {"true": True, "false": False}.get(said or ""))


def _seconds(value: str | None, divisor: int) -> float | None:
    try:
        return None if value is None else max(0.0, float(value) / divisor)
    except ValueError:
        return None


def status_error(status: int, headers: Mapping[str, str], body: bytes) -> StatusError:
    """The typed error of an answer that is a refusal. A body that is not ours (a proxy's page) becomes its status."""
    request_id = headers.get("x-request-id")
    try:
        parsed = _body.decode(body)
        detail, request_id = parsed.error, parsed.request_id or request_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        detail = ErrorDetail(message=f"The server answered with status {status}.")
    return make_error(status, detail, request_id, hints(headers))


def make_error(status: int, detail: ErrorDetail, request_id: str | None, said: Hints) -> StatusError:
    kind = _BY_CODE.get(detail.code or "") or _BY_STATUS.get(status)
    if kind is None:
        kind = ServerError if status >= 500 else InvalidRequestError
    message = detail.message or f"The server answered with status {status}."
    return kind(message, status=status, detail=detail, request_id=request_id, hints=said)


def stream_error(data: bytes, request_id: str | None) -> StatusError:
    """The typed error that a stream ends with. Its status is not known any more: the type of the error tells."""
    parsed = _body.decode(data)
    status = 400 if parsed.error.type == "invalid_request_error" else 500
    return make_error(status, parsed.error, parsed.request_id or request_id, Hints())
