"""A worker's errors become ours; its words stay inside."""

from __future__ import annotations

import json

import pytest

from museway_engine.errors import ContextTooLong, EngineError, InvalidForModel, WorkerLost
from museway_engine.worker.errors import WorkerBusy, WorkerConfused, is_workers_fault, read_failure, translate
from museway_engine.worker.tally import Failure

_PATH = 'File "/opt/engine/sglang/http_server.py", line 1870'


def _translated(status: int, message: str, *, delivered: bool = False) -> EngineError:
    return translate(Failure(status, message), worker="http://w", rid="r", context=8192, delivered=delivered)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "The input (40030 tokens) is longer than the model's context length (8192 tokens).", ContextTooLong),
        (400, "Requested token count exceeds the model's maximum context length of 8192 tokens.", ContextTooLong),
        (400, f"Failed to compile json grammar: [time] /project/cpp/x.cc {_PATH}", InvalidForModel),
        (400, f"1 validation error: {_PATH}", InvalidForModel),
        (400, "Model only supports text input; received unsupported content type 'image_url'.", InvalidForModel),
        (422, "no", InvalidForModel),
        (400, "Duplicate request ID detected: x", WorkerConfused),
        (404, "Not Found", WorkerConfused),
        (401, "Unauthorized", WorkerConfused),
        (500, f"Internal {_PATH}", WorkerLost),
        (503, "The request queue is full.", WorkerBusy),
        (503, "loading", WorkerLost),
        (429, "slow down", WorkerBusy),
    ],
)
def test_each_error(status: int, message: str, kind: type[EngineError]) -> None:
    error = _translated(status, message)
    assert type(error) is kind
    shown = f"{error} {vars(error)}"
    assert "/opt" not in shown
    assert "/project" not in shown


def test_the_prompts_size_is_read_from_the_message() -> None:
    error = _translated(400, "The input (40030 tokens) is longer than the model's context length (8192 tokens).")
    assert isinstance(error, ContextTooLong)
    assert "40030" in error.message
    assert "8192" in error.message


def test_a_full_queue_after_delivery_is_a_loss() -> None:
    error = _translated(503, "The request queue is full.", delivered=True)
    assert isinstance(error, WorkerLost)
    assert error.delivered


@pytest.mark.parametrize(("status", "counts"), [(400, False), (404, False), (429, False), (500, True), (502, True)])
def test_only_the_workers_own_failures_count_against_it(status: int, counts: bool) -> None:
    assert is_workers_fault(_translated(status, "")) is counts


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"object": "error", "message": "m", "code": 400}, Failure(400, "m")),
        (400, {"error": {"message": "m"}}, Failure(400, "m")),
        (200, {"error": {"message": "m", "type": "SERVICE_UNAVAILABLE", "code": 503}}, Failure(503, "m")),
        (200, {"error": {"message": "m", "code": "503"}}, Failure(503, "m")),
        (200, {"error": {"message": "m"}}, Failure(500, "m")),
        (404, {"detail": "Not Found"}, Failure(404, "")),
    ],
)
def test_all_shapes_of_error_bodies(status: int, body: dict[str, object], expected: Failure) -> None:
    assert read_failure(status, json.dumps(body).encode()) == expected


def test_a_body_that_is_no_json() -> None:
    assert read_failure(502, b"<html>Bad Gateway") == Failure(502, "")
