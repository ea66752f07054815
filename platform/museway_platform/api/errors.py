"""The one table from a refusal to a status, a code and words. Inner rooms raise facts; only here do they become HTTP.

What a caller reads is written here; the cause of a failure goes to the log, never out. Every code stands in `TABLE`, is
described in the OpenAPI document (`x-errors`), and `doc_url` points there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Struct

from museway_billing.journal import JournalBroken, JournalClosed, JournalFull
from museway_engine.allowance import AllowanceRefused
from museway_engine.errors import DeadlinePassed, InvalidForModel, NoWorker, WorkerLost, WorkerTimeout
from museway_platform.api.headers import refusal_headers
from museway_platform.api.refused import explain
from museway_platform.database.redis import RedisUnavailable
from museway_platform.idempotency.kept import AnswerNotKept, OtherBody
from museway_platform.idempotency.run import Abandoned
from museway_platform.idempotency.share import RunningElsewhere
from museway_platform.identity.directory import DirectoryUnavailable
from museway_platform.limits.limiter import LimiterUnavailable
from museway_platform.serving.refusals import Denied, Draining, Forbidden, OverMaxCost
from museway_platform.wire.refusals import BadRequest, ErrorBody, ErrorDetail, UnknownModel

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "billing_error",
    "rate_limit_error",
    "engine_error",
    "server_error",
]


class Row(Struct, frozen=True):
    """One code: its status, its type, when it happens. `retry` is False where the same request can't succeed later."""

    status: int
    type: ErrorType
    meaning: str
    retry: bool = False


_BAD: Final = "invalid_request_error"

TABLE: Final[dict[str, Row]] = {
    "invalid_json": Row(400, _BAD, "The body is not JSON, not UTF-8, nested too deeply or has a key twice."),
    "invalid_type": Row(400, _BAD, "A field has a value of the wrong type; `param` is its path."),
    "invalid_value": Row(400, _BAD, "A field has a value outside its bounds; `param` is its path."),
    "invalid_request": Row(400, _BAD, "The model can't answer this request as it is."),
    "missing_required_parameter": Row(400, _BAD, "A required field is missing; `param` is its path."),
    "unknown_parameter": Row(400, _BAD, "A field that this API does not have; `param` is its path."),
    "unsupported_parameter": Row(400, _BAD, "A field that others take and this API refuses; the message says why."),
    "mode_conflict": Row(400, _BAD, "`mode` contradicts the mode of the model's alias."),
    "context_length_exceeded": Row(400, _BAD, "The messages and the maximum do not fit the model's context."),
    "max_cost_too_low": Row(400, _BAD, "Even the least answer would cost more than `max_cost_nano_usd`."),
    "invalid_api_key": Row(401, "authentication_error", "The API key is missing, malformed, unknown or revoked."),
    "insufficient_credit": Row(402, "billing_error", "The organization's credit does not cover the request."),
    "cap_reached": Row(402, "billing_error", "A spending cap does not leave room for the request."),
    "permission_denied": Row(403, "permission_error", "The key may not do this."),
    "model_not_found": Row(404, _BAD, "No model, nor an alias of one, has this id."),
    "not_found": Row(404, _BAD, "There is no such route, or no such object for this key."),
    "not_available": Row(404, _BAD, "This route is planned and not available yet."),
    "method_not_allowed": Row(405, _BAD, "The route exists, for other methods (`allow` names them)."),
    "request_timeout": Row(408, _BAD, "The body of the request did not arrive in time.", True),
    "stream_restarted": Row(
        409, _BAD, "The stream of `Last-Event-ID` is over: begin again, and do not join the new text to the old."
    ),
    "request_in_progress": Row(
        409,
        _BAD,
        "Another process answers the request of this `Idempotency-Key`; `retry-after` says when to ask.",
        True,
    ),
    "answer_not_kept": Row(
        409, _BAD, "The request of this `Idempotency-Key` was answered and billed, and the answer is not kept any more."
    ),
    "request_cancelled": Row(409, _BAD, "The request was cancelled, or nobody read its answer for too long."),
    "body_too_large": Row(413, _BAD, "The body is larger than this server takes."),
    "unsupported_media_type": Row(415, _BAD, "The body must be `application/json`."),
    "idempotency_key_reused": Row(422, _BAD, "The `Idempotency-Key` stands for a request with another body."),
    "rate_limit_exceeded": Row(429, "rate_limit_error", "A rate limit has no room now; `retry-after` says when.", True),
    "too_many_unknown_keys": Row(
        429,
        "rate_limit_error",
        "Too many unknown API keys were tried from this address; `retry-after` says when.",
        True,
    ),
    "internal_error": Row(500, "server_error", "A fault of ours; it is logged under `request_id`.", True),
    "engine_lost": Row(502, "engine_error", "The worker broke off. What was delivered of a stream is credited.", True),
    "engine_unavailable": Row(503, "engine_error", "No worker is ready.", True),
    "engine_overloaded": Row(503, "engine_error", "All workers are busy and the queue is full.", True),
    "journal_full": Row(503, "server_error", "No room to record another request: nothing is served unmetered.", True),
    "journal_unavailable": Row(
        503, "server_error", "The record of requests is closed: nothing is served unmetered.", True
    ),
    "directory_unavailable": Row(503, "server_error", "This key can't be checked at the moment.", True),
    "limits_unavailable": Row(503, "server_error", "Limits and credit can't be checked: nothing is begun.", True),
    "shutting_down": Row(503, "server_error", "This process is stopping; another one will answer.", True),
    "engine_timeout": Row(504, "engine_error", "The worker did not answer in time.", True),
    "deadline_exceeded": Row(504, "engine_error", "`deadline_ms` went by before anything could be delivered."),
}


class ApiError(Exception):
    """A refusal as a client sees it. `headers` are lower-case names; what is not in them is not sent."""

    def __init__(
        self, code: str, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        row = TABLE[code] if code in TABLE else TABLE["invalid_request"]
        self.code = code
        self.status = row.status
        self.type: ErrorType = row.type
        self.message = message
        self.param = param
        self.headers: dict[str, str] = dict(headers or {})
        if not row.retry:
            self.headers.setdefault("x-should-retry", "false")


def to_api_error(exc: BaseException) -> ApiError:
    """What a client is told of `exc`. Everything unforeseen is `internal_error`, without a word of its cause."""
    match exc:
        case ApiError():
            return exc
        case BadRequest():
            return ApiError(exc.code, exc.message, param=exc.param)
        case UnknownModel():
            return model_not_found(exc.model)
        case InvalidForModel():
            return ApiError(exc.code, exc.message, param=exc.param)
        case Denied():
            return denied(exc)
        case OverMaxCost():
            return over_max_cost(exc)
        case OtherBody() | AnswerNotKept() | Abandoned() | RunningElsewhere():
            return _about_its_key(exc)
        case Forbidden():
            return permission_denied(f"This key is not permitted {exc.what.replace(':', ' ')!r}.")
        case _:
            return _unavailable(exc)


def _unavailable(exc: BaseException) -> ApiError:
    """Our own side could not do it."""
    match exc:
        case NoWorker(queue_full=True):
            return _later("engine_overloaded", "All workers are busy. Try again shortly.", exc.retry_after_s)
        case NoWorker():
            return _later("engine_unavailable", "No worker is ready. Try again shortly.", exc.retry_after_s)
        case WorkerTimeout():
            return ApiError("engine_timeout", "The model did not answer in time.")
        case WorkerLost(delivered=True):
            return ApiError("engine_lost", "The model broke off. What was delivered is billed and credited.")
        case WorkerLost():
            return ApiError("engine_lost", "The model broke off before it answered. Nothing is billed.")
        case DeadlinePassed():
            return ApiError("deadline_exceeded", "'deadline_ms' went by before an answer began.", param="deadline_ms")
        case AllowanceRefused():
            message = "'max_cost_nano_usd' does not cover the first token of an answer."
            return ApiError("max_cost_too_low", message, param="max_cost_nano_usd")
        case JournalFull():
            return _later("journal_full", "The server can't record another request. Try again shortly.", 5)
        case JournalBroken() | JournalClosed():
            return _later("journal_unavailable", "The server can't record requests now. Try again shortly.", 5)
        case LimiterUnavailable() | RedisUnavailable():
            return _later("limits_unavailable", "Limits and credit can't be checked now. Try again shortly.", 1)
        case DirectoryUnavailable():
            return _later("directory_unavailable", "The key can't be checked now. Try again shortly.", 2)
        case Draining():
            return _later("shutting_down", "This server is stopping. Try again.", 1)
        case _:
            return ApiError("internal_error", "The server had an error while it answered the request.")


def stream_restarted() -> ApiError:
    return ApiError(
        "stream_restarted",
        "The stream of this 'Last-Event-ID' can't be resumed. Ask again without it: the answer will be a new one.",
        param="Last-Event-ID",
    )


def _about_its_key(exc: OtherBody | AnswerNotKept | Abandoned | RunningElsewhere) -> ApiError:
    match exc:
        case RunningElsewhere():
            # another connection may reach the process that runs it
            headers = {"retry-after": "1", "retry-after-ms": "250", "connection": "close"}
            message = "The request of this 'Idempotency-Key' is being answered by another process."
            return ApiError("request_in_progress", message, headers=headers)
        case OtherBody():
            message = "This 'Idempotency-Key' was used for a request with another body."
            return ApiError("idempotency_key_reused", message, param="Idempotency-Key")
        case AnswerNotKept():
            message = "The request of this 'Idempotency-Key' was answered before; its answer is not kept any more."
            return ApiError("answer_not_kept", message, param="Idempotency-Key")
        case Abandoned():
            return ApiError("request_cancelled", "The request was cancelled before its answer was whole.")


def _later(code: str, message: str, seconds: float) -> ApiError:
    return ApiError(code, message, headers={"retry-after": str(max(1, math.ceil(seconds)))})


def denied(exc: Denied) -> ApiError:
    """Which limit of whom, used, limit, when it frees. 402 for money, 429 for rates.

    Without `retry-after` and with `x-should-retry: false` where waiting never helps (DESIGN §5).
    """
    refused = exc.refused
    message = explain(refused)
    headers = refusal_headers(exc.states, exc.subject.mode)
    if refused.retry_after_s is None:
        headers["x-should-retry"] = "false"
    else:
        headers["retry-after"] = str(max(1, math.ceil(refused.retry_after_s)))
    match refused.state.kind:
        case "rate":
            return ApiError("rate_limit_exceeded", message, headers=headers)
        case "cap":
            return ApiError("cap_reached", message, headers=headers)
        case "credit":
            return ApiError("insufficient_credit", message, headers=headers)


def over_max_cost(exc: OverMaxCost) -> ApiError:
    message = f"An answer costs at least {exc.least} nano-USD; 'max_cost_nano_usd' is {exc.max_cost}."
    return ApiError("max_cost_too_low", message, param="max_cost_nano_usd")


def model_not_found(model: str) -> ApiError:
    return ApiError("model_not_found", f"The model {model[:80]!r} does not exist.", param="model")


_KEY_TROUBLE: Final = {
    "missing": "No API key was given. Send it as 'Authorization: Bearer mw_…'.",
    "malformed": "The API key is not one of ours: its form or checksum is wrong.",
    "unknown": "The API key is unknown.",
    "revoked": "The API key was revoked.",
    "expired": "The API key has expired.",
    "suspended": "The organization of this API key is suspended.",
}


def invalid_api_key(reason: str) -> ApiError:
    """`reason`: missing, malformed, unknown, revoked, expired, suspended."""
    message = _KEY_TROUBLE.get(reason, "The API key is not valid.")
    return ApiError("invalid_api_key", message, headers={"www-authenticate": "Bearer"})


def too_many_unknown_keys(wait_s: float) -> ApiError:
    return _later("too_many_unknown_keys", "Too many unknown API keys came from your address.", wait_s)


def permission_denied(message: str) -> ApiError:
    return ApiError("permission_denied", message)


def not_found(what: str) -> ApiError:
    """`what` begins the sentence: "Receipt 'req_…'", "The route"."""
    return ApiError("not_found", f"{what} does not exist.")


def not_available(route: str) -> ApiError:
    """A route of DESIGN §5 that is not built yet; it is absent from the document."""
    return ApiError("not_available", f"{route} is not available yet.")


def method_not_allowed(*allowed: str) -> ApiError:
    names = ", ".join(allowed)
    return ApiError("method_not_allowed", f"This route answers to {names}.", headers={"allow": names})


def body_too_large(limit: int) -> ApiError:
    """`limit` in bytes."""
    return ApiError("body_too_large", f"The body is larger than {limit} bytes.")


def body_too_slow(seconds: float) -> ApiError:
    return ApiError("request_timeout", f"The body did not arrive within {seconds:.0f} seconds.")


def wrong_content_type(content_type: bytes) -> ApiError:
    shown = content_type[:80].decode("latin-1")
    return ApiError("unsupported_media_type", f"The content type must be application/json, not {shown!r}.")


def error_body(error: ApiError, request_id: str) -> ErrorBody:
    """The body of the answer, or the last event of a stream that had begun."""
    return ErrorBody(
        error=ErrorDetail(
            message=error.message,
            type=error.type,
            param=error.param,
            code=error.code,
            doc_url=doc_url(error.code),
        ),
        request_id=request_id,
    )


def doc_url(code: str) -> str | None:
    """Where the code is described: a place in the document that this server serves."""
    return f"/openapi.json#/x-errors/{code}" if code in TABLE else None


_encoder: Final = msgspec.json.Encoder()


def encode_error(error: ApiError, request_id: str) -> bytes:
    return _encoder.encode(error_body(error, request_id))
