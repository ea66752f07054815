"""What a protocol's decoder refuses, and the body in which any refusal reaches a client. No statuses here: `api.errors`."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

BadRequestCode = Literal[
    "invalid_json",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "unknown_parameter",
    "unsupported_parameter",
    "mode_conflict",
]


class BadRequest(Exception):
    """The body says something we don't take. `message` is ours and safe to show; `param` is a dotted path or None."""

    def __init__(self, message: str, *, param: str | None = None, code: BadRequestCode = "invalid_value") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code: BadRequestCode = code


class UnknownModel(Exception):
    """No served model, nor an alias of one, has this id."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """OpenAI's error object and a link into our documentation."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    doc_url: str | None = None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The whole body of a refusal, and the last event of a stream that broke off."""

    error: ErrorDetail
    request_id: str
