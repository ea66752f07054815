"""Refusals of the engine. They know no HTTP status; `museway_platform.api.errors` is the only table that does."""

from __future__ import annotations


class EngineError(Exception):
    """Base of all: the request could not be answered by the engine."""


class NoWorker(EngineError):
    """No worker is ready, or all are full and the queue is too. `retry_after_s` is a hint."""

    def __init__(self, retry_after_s: float, *, queue_full: bool = False) -> None:
        super().__init__("no worker is available")
        self.retry_after_s = retry_after_s
        self.queue_full = queue_full


class WorkerLost(EngineError):
    """The worker broke off. `delivered` says whether text had gone to the caller already."""

    def __init__(self, worker: str, *, delivered: bool, cause: str) -> None:
        super().__init__(f"worker lost: {cause}")
        self.worker = worker
        self.delivered = delivered
        self.cause = cause


class WorkerTimeout(WorkerLost):
    """The worker did not answer in time."""


class InvalidForModel(EngineError):
    """The worker, or the profile, refuses the request itself (too long, a schema that does not compile, …).

    `message` is ours, safe to show; `param` names the field; the worker's own text is only logged.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class ContextTooLong(InvalidForModel):
    """Prompt (+ maximum) does not fit the model's context."""

    def __init__(self, *, prompt: int, context: int) -> None:
        super().__init__(
            f"This model's context is {context} tokens; the messages take {prompt}. Shorten them.",
            param="messages",
            code="context_length_exceeded",
        )


class DeadlinePassed(EngineError):
    """`deadline_ms` went by before anything could be delivered."""
