"""The OpenAPI 3.1 document, made of the table of operations, the shapes and the table of errors. Deterministic.

`python -m museway_platform.api.openapi` writes it to standard output; with `--check FILE` it compares and exits 1 where
the file is out of date.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from museway_platform.api.errors import TABLE
from museway_platform.api.operations import LIMIT_HEADERS, OPERATIONS, Answer, Operation, Parameter
from museway_platform.wire.refusals import ErrorBody

Json = dict[str, Any]

VERSION: Final = "0.1.0"
DESCRIPTION: Final = (
    "One model, several ways to answer, an exact bill. Amounts are integers of nano-USD (1e-9 USD), counts are tokens. "
    "Every refusal has a `code`; `x-errors` says what each means and whether the same request can succeed later."
)

_REF: Final = "#/components/schemas/{name}"
_ANY_ROUTE: Final = ("method_not_allowed", "internal_error")
_ANY_KEY: Final = ("invalid_api_key", "too_many_unknown_keys", "permission_denied", "directory_unavailable")

HEADERS: Final[dict[str, tuple[str, Json]]] = {
    "x-request-id": ("Names the request: in our log, on its receipt.", {"type": "string"}),
    "x-should-retry": ("`false` where the same request can't succeed later.", {"type": "string", "enum": ["false"]}),
    "retry-after": ("Seconds until it makes sense to ask again.", {"type": "integer"}),
    "www-authenticate": ("The scheme that is expected.", {"type": "string"}),
    "allow": ("The methods that the route answers to.", {"type": "string"}),
    "x-museway-cost-nano-usd": ("What the answer cost; JSON answers only. 0 where replayed.", {"type": "integer"}),
    "idempotent-replayed": (
        "`true` where the answer was made for an earlier try.",
        {"type": "string", "enum": ["true"]},
    ),
    "x-ratelimit-limit-requests": ("Requests that the tightest limit grants a window.", {"type": "integer"}),
    "x-ratelimit-remaining-requests": ("Requests left of it.", {"type": "integer"}),
    "x-ratelimit-reset-requests": ("Until it is whole again, as `6m0s`.", {"type": "string"}),
    "x-ratelimit-limit-tokens": ("Tokens of the tighter of input and output.", {"type": "integer"}),
    "x-ratelimit-remaining-tokens": ("Tokens left of it.", {"type": "integer"}),
    "x-ratelimit-reset-tokens": ("Until it is whole again, as `6m0s`.", {"type": "string"}),
    "ratelimit": ("IETF draft: what is left, by policy.", {"type": "string"}),
    "ratelimit-policy": ("IETF draft: the policies.", {"type": "string"}),
}


def document() -> Json:
    """The whole document as plain JSON values."""
    schemas, components = _schemas(OPERATIONS)
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Museway", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"api_key": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "headers": {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()},
            "securitySchemes": {
                "api_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A secret key, `mw_live_…` or `mw_test_…`.",
                }
            },
        },
        "x-errors": {
            code: {"status": row.status, "type": row.type, "meaning": row.meaning, "retry": row.retry}
            for code, row in TABLE.items()
        },
    }


def text() -> str:
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _schemas(operations: Sequence[Operation]) -> tuple[dict[int, Json], dict[str, Json]]:
    """The schema of every shape of the table, by identity, and the components that they refer to."""
    shapes: list[Any] = [ErrorBody]
    for operation in operations:
        if operation.body is not None:
            shapes.append(operation.body)
        for answer in operation.answers:
            shapes.extend(shape for shape in (answer.shape, answer.stream) if shape is not None)
    unique = list({id(shape): shape for shape in shapes}.values())
    references, components = msgspec.json.schema_components(unique, ref_template=_REF)
    asked = _names([operation.body for operation in operations if operation.body is not None])
    for name, schema in components.items():
        _tidy(schema)
        if name not in asked:
            _require_what_is_sent(schema)
    return {id(shape): schema for shape, schema in zip(unique, references, strict=True)}, components


def _names(shapes: Sequence[Any]) -> set[str]:
    """The components that requests are made of."""
    return set(msgspec.json.schema_components(list(dict.fromkeys(shapes)), ref_template=_REF)[1])


def _require_what_is_sent(schema: Json) -> None:
    """A default is ours, not the reader's: answers always carry the field."""
    properties: dict[str, Json] = schema.get("properties", {})
    sent = {name for name, field in properties.items() if "default" in field}
    for name in sent:
        del properties[name]["default"]
    if sent:
        schema["required"] = [name for name in properties if name in sent or name in schema.get("required", ())]


def _tidy(schema: object) -> None:
    """msgspec writes an enum without its type, on which generators stumble, and a docstring with its indentation."""
    if isinstance(schema, dict):
        node = cast("Json", schema)
        values = cast("list[object]", node.get("enum", []))
        if values and all(isinstance(value, str) for value in values):
            node.setdefault("type", "string")
        if isinstance(node.get("description"), str):
            node["description"] = inspect.cleandoc(node["description"])
        for value in node.values():
            _tidy(value)
    elif isinstance(schema, list):
        for value in cast("list[object]", schema):
            _tidy(value)


def _operation(operation: Operation, schemas: dict[int, Json]) -> Json:
    made: Json = {"operationId": operation.id, "summary": operation.summary, "tags": [operation.tag]}
    if operation.description:
        made["description"] = operation.description
    if not operation.secured:
        made["security"] = []
    if operation.parameters:
        made["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        content = {"application/json": {"schema": schemas[id(operation.body)]}}
        made["requestBody"] = {"required": True, "content": content}
    responses: dict[str, Json] = {str(answer.status): _answer(answer, schemas) for answer in operation.answers}
    for status, codes in _refusals(operation).items():
        responses.setdefault(str(status), _refusal(codes, schemas[id(ErrorBody)]))
    made["responses"] = dict(sorted(responses.items()))
    return made


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _answer(answer: Answer, schemas: dict[int, Json]) -> Json:
    content: dict[str, Json] = {"application/json": {"schema": schemas[id(answer.shape)]}}
    if answer.stream is not None:
        content["text/event-stream"] = {"schema": schemas[id(answer.stream)]}
    return {
        "description": answer.description,
        "headers": _headers(["x-request-id", *answer.headers]),
        "content": content,
    }


def _refusals(operation: Operation) -> dict[int, list[str]]:
    """Status → codes, in the order of the table."""
    every = {*operation.refusals, *_ANY_ROUTE, *(_ANY_KEY if operation.secured else ())}
    by_status: dict[int, list[str]] = {}
    for code, row in TABLE.items():
        if code in every:
            by_status.setdefault(row.status, []).append(code)
    return by_status


def _refusal(codes: Sequence[str], schema: Json) -> Json:
    lines = "\n".join(f"- `{code}`: {TABLE[code].meaning}" for code in codes)
    return {
        "description": lines,
        "headers": _headers(_refusal_headers(codes)),
        "content": {"application/json": {"schema": schema}},
    }


def _refusal_headers(codes: Sequence[str]) -> Iterator[str]:
    yield "x-request-id"
    status = TABLE[codes[0]].status
    if status in (402, 409, 429, 503):
        yield "retry-after"
    if status == 402 or "rate_limit_exceeded" in codes:
        yield from LIMIT_HEADERS
    if any(not TABLE[code].retry for code in codes) or status == 429:
        yield "x-should-retry"
    if status == 401:
        yield "www-authenticate"
    if status == 405:
        yield "allow"


def _headers(names: Sequence[str] | Iterator[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def main(argv: Sequence[str]) -> int:
    """Print the document, or with `--check FILE` say whether the file is up to date."""
    if len(argv) == 2 and argv[0] == "--check":
        if Path(argv[1]).read_text(encoding="utf-8") == text():
            return 0
        sys.stderr.write(f"{argv[1]} is out of date: python -m museway_platform.api.openapi > {argv[1]}\n")
        return 1
    if argv:
        sys.stderr.write("usage: python -m museway_platform.api.openapi [--check FILE]\n")
        return 2
    sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
