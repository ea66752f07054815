"""SGLang's errors → ours. A worker's own text is neither handed on (it carries file paths) nor logged (it quotes what the
customer sent): it stands in the worker's log, under the rid."""

from __future__ import annotations

import logging
import re
from typing import Final

import msgspec

from museway_engine.errors import ContextTooLong, EngineError, InvalidForModel, NoWorker, WorkerLost
from museway_engine.worker.shapes import ErrorBody, error_decoder
from museway_engine.worker.tally import Failure

log = logging.getLogger("museway.worker")

_TOKENS: Final = re.compile(r"(?:input \(|total of )(\d+) tokens")
_GRAMMAR: Final = re.compile(r"grammar|json.?schema|regex|ebnf", re.IGNORECASE)
RETRY_AFTER_S: Final = 2.0


class WorkerBusy(NoWorker):
    """This worker's queue is full; another one may have room. Does not count against the worker."""

    def __init__(self) -> None:
        super().__init__(RETRY_AFTER_S, queue_full=True)


class WorkerConfused(WorkerLost):
    """The worker does not know our path, or our rid is taken there: our fault or the operator's, not the client's."""


def read_failure(status: int, body: bytes) -> Failure:
    """The failure in an error body of any of SGLang's three shapes. `status` 200 is that of an event inside a stream."""
    try:
        error = error_decoder.decode(body)
        if len(error.error) > 4:  # {"error": {…}}: look inside; not null
            error = error_decoder.decode(error.error)
    except msgspec.MsgspecError:
        error = ErrorBody()
    if status == 200:
        told = str(error.code)
        status = int(told) if told.isdecimal() else 500
    return Failure(status, error.message or "")


def is_workers_fault(error: EngineError) -> bool:
    """Whether the breaker counts it: 5xx, time-outs and broken connections only, never a client's 4xx (DESIGN §5)."""
    return isinstance(error, WorkerLost) and not isinstance(error, WorkerConfused)


def translate(failure: Failure, *, worker: str, rid: str, context: int, delivered: bool) -> EngineError:
    """Our error for what `worker` said of `rid`. `context` is the model's, in tokens."""
    status, message = failure.status, failure.message
    log.warning("worker %s refused %s: status %s, %s characters", worker, rid, status, len(message))
    if status == 429 or (status == 503 and "queue is full" in message):
        return WorkerLost(worker, delivered=True, cause="queue full") if delivered else WorkerBusy()
    if status >= 500:
        return WorkerLost(worker, delivered=delivered, cause=f"status {status}")
    if status not in (400, 413, 422) or "Duplicate request ID" in message:
        return WorkerConfused(worker, delivered=delivered, cause=f"status {status}")
    if "context length" in message:
        found = _TOKENS.search(message)
        return ContextTooLong(prompt=int(found[1]) if found else context, context=context)
    if _GRAMMAR.search(message):
        return InvalidForModel("The schema or grammar does not compile for this model.", param="response_format")
    if "Model only supports text" in message:
        return InvalidForModel("This model takes text only.", param="messages")
    return InvalidForModel("The model refused the request's parameters.")
