"""Logs: one JSON object a line, and nothing in it that a customer said or owns."""

from __future__ import annotations

import json
import logging
import sys

import msgspec
import pytest

from museway_platform.api import logs
from museway_platform.limits.memory import HoldFault

SECRET = "mw_test_0TBbSF7Gfh9DJfOK4FuDgmhOmSl000000"
"""Not minted here: parameters are the same in every test process."""


def written(record: logging.LogRecord) -> dict[str, object]:
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    return json.loads(line)


def record(message: str, *args: object, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("museway.test")
    info = None if error is None else (type(error), error, error.__traceback__)
    return logger.makeRecord(logger.name, logging.INFO, __file__, 1, message, args, info, extra=extra)


def test_a_line() -> None:
    line = written(record("%s of %d", "request", 3, request_id="req_1", status=200, organization="org_1"))
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "museway.test",
        "message": "request of 3",
        "request_id": "req_1",
        "status": 200,
        "organization": "org_1",
    }


def test_fields_that_are_not_on_the_list_are_not_written() -> None:
    assert "prompt" not in written(record("x", prompt="Tell me a secret"))


def test_records_of_other_rooms_carry_the_request_of_their_task() -> None:
    token = logs.request_id.set("req_2")
    try:
        assert written(record("x"))["request_id"] == "req_2"
    finally:
        logs.request_id.reset(token)
    assert "request_id" not in written(record("x"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param(f"key {SECRET} refused", "key [redacted] refused", id="a key"),
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ("sk_live_0123456789abcdef and sk-proj-0123456789abcdef", "[redacted] and [redacted]"),
        ("whsec_0123456789abcdef", "[redacted]"),
        ("postgresql://user:passw0rd@host/db", "postgresql://[redacted]host/db"),
        ("paid with 4242 4242 4242 4242.", "paid with [redacted]."),
        ("paid with 378282246310005", "paid with [redacted]"),
        # What only looks like it: a time in microseconds, an id, a count, a port.
        ("at 1764012345678901", "at 1764012345678901"),
        ("req_01M87DY36MAFN4P74VZRKV49WG", "req_01M87DY36MAFN4P74VZRKV49WG"),
        ("http://127.0.0.1:30000/health", "http://127.0.0.1:30000/health"),
    ],
)
def test_the_net_under_the_rule(text: str, kept: str) -> None:
    assert logs.redact(text) == kept
    assert written(record("%s", text, error=None, code=text))["message"] == kept
    assert written(record("x", code=text))["code"] == kept


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    with pytest.raises(type(error)) as caught:
        fail(error)
    return caught.value


def fail(error: Exception) -> None:
    raise error


def test_of_a_librarys_exception_only_type_and_place_are_written() -> None:
    line = written(record("failed", error=raised(ValueError("the prompt was: hello"))))
    assert "hello" not in json.dumps(line)
    assert str(line["exception"]).count("ValueError") == 1
    assert "fail" in str(line["exception"])


def test_our_own_exceptions_say_what_they_are_about() -> None:
    cause = raised(KeyError("secret"))
    error = HoldFault(f"hold_1 of {SECRET}")
    error.__cause__ = cause
    line = written(record("failed", error=raised(error)))
    chain = msgspec.convert(line["exception"], list[dict[str, object]])
    assert [link.get("message") for link in chain] == ["hold_1 of [redacted]", None]
    assert [link["type"] for link in chain] == ["HoldFault", "KeyError"]


def test_configured_once_or_twice_a_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure()
        logs.configure()
        logging.getLogger("museway.test").info("once")
        sys.stderr.flush()
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["message"] == "once"
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
