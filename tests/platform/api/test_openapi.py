"""The document is valid, whole, and the SDK is made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from jsonschema import Draft202012Validator

from museway_platform.api import openapi
from museway_platform.api.app import HOT_PATH, PLANNED, ROUTES
from museway_platform.api.errors import TABLE, doc_url
from museway_platform.wire.refusals import BadRequestCode
from traffic import validator

SDK = Path(__file__).parents[3] / "sdk"
UNDESCRIBED = {"/metrics", "/openapi.json"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document()


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON value."""
    if isinstance(value, dict):
        node = cast("dict[str, Any]", value)
        yield node
        value = list(node.values())
    if isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from objects(inner)


def test_valid_by_the_schema_of_openapi(document: dict[str, Any]) -> None:
    found = validator("OpenAPI-3.1").iter_errors(document)  # pyright: ignore[reportUnknownMemberType]
    assert [error.message for error in found] == []


def test_every_schema_is_a_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)  # pyright: ignore[reportUnknownMemberType]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for node in objects(document):
        if isinstance(reference := node.get("$ref"), str):
            place: Any = document
            for step in reference.removeprefix("#/").split("/"):
                place = place[step]


def test_every_header_of_an_answer_is_described(document: dict[str, Any]) -> None:
    used = {name for node in objects(document["paths"]) for name in node.get("headers", {})}
    assert used == set(document["components"]["headers"])


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    served = {HOT_PATH} | {path for route in ROUTES for path in getattr(route, "paths", ())}
    served = {path.replace(":str}", "}") for path in served}
    assert set(document["paths"]) == served - UNDESCRIBED
    assert not any(path.startswith(planned) for path in document["paths"] for planned in PLANNED)


def test_streaming_declares_both_content_types(document: dict[str, Any]) -> None:
    content = document["paths"][HOT_PATH]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}


def test_every_code_is_described(document: dict[str, Any]) -> None:
    assert set(document["x-errors"]) == set(TABLE)
    for code in TABLE:
        path = (doc_url(code) or "").removeprefix("/openapi.json#/").split("/")
        assert document[path[0]][path[1]]["meaning"]


def test_every_code_of_the_decoder_is_in_the_table() -> None:
    assert set(get_args(BadRequestCode)) <= set(TABLE)


def test_every_refusal_of_an_operation_has_a_response(document: dict[str, Any]) -> None:
    responses = document["paths"][HOT_PATH]["post"]["responses"]
    assert {"400", "401", "402", "403", "404", "405", "413", "415", "429", "500", "502", "503", "504"} <= set(responses)
    assert "rate_limit_exceeded" in responses["429"]["description"]


def test_what_an_answer_always_has_is_required(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "total_tokens" in schemas["Usage"]["required"]
    assert "object" in schemas["Model"]["required"]
    assert "thinking" not in schemas["Museway"]["required"]
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]


def test_deterministic() -> None:
    command = [sys.executable, "-m", "museway_platform.api.openapi"]
    runs = [
        subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout for seed in "12"
    ]
    assert runs[0] == runs[1] == openapi.text().encode()


def test_the_sdk_is_up_to_date(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert openapi.main(["--check", str(SDK / "openapi.json")]) == 0
    generate = [sys.executable, str(SDK / "codegen" / "generate.py"), "--check"]
    assert subprocess.run(generate, check=False).returncode == 0
    stale = tmp_path / "openapi.json"
    stale.write_text(json.dumps({}))
    assert openapi.main(["--check", str(stale)]) == 1
    assert "out of date" in capsys.readouterr().err
