"""Makes `museway/types/__init__.py` and `museway/_operations.py` from `openapi.json`. Deterministic, offline.

    python sdk/codegen/generate.py            writes both
    python sdk/codegen/generate.py --check    exits 1 where one of them is out of date

The types are made by datamodel-code-generator from a softened copy of the document (`soften`): a client must go on
reading a server that is newer than itself.
"""

from __future__ import annotations

import copy
import json
import keyword
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

SDK: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = SDK / "openapi.json"
TYPES: Final = SDK / "museway" / "types" / "__init__.py"
OPERATIONS: Final = SDK / "museway" / "_operations.py"

TYPES_HEADER: Final = '"""Types of the API, generated from `openapi.json` by `codegen/generate.py`: do not edit."""'

OPERATIONS_HEADER: Final = '''"""Operations of the API, generated from `openapi.json` by `codegen/generate.py`: do not edit.

Each gives a `Call`: what to send and how to read the answer, without sending anything. `Museway.call` sends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from museway import types
from museway._call import Call, encode_path
'''

NAMES: Final = {"Messages": "Message", "Content": "AssistantPart"}
"""What the generator names after a property, and what it is."""

BOUNDS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"}) | {
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
}

_ABSENT: Final = re.compile(r"(?:\s*\| None)?\s*\| UnsetType(\s*\)?)\s*= UNSET")
"""How the generator writes an optional field; ours is None."""

Json = dict[str, Any]


def soften(document: Json) -> Json:
    """A copy without bounds (the server checks them), and with open enums where only the server speaks.

    A closed enum in an answer would make every older client fail on the day the server learns a new word.
    """
    soft = copy.deepcopy(document)
    schemas: Json = soft["components"]["schemas"]
    asked = _reachable(schemas, "ChatRequest")
    tags = {
        (target.rsplit("/", 1)[1], node["discriminator"]["propertyName"])
        for node in _nodes(schemas)
        if "discriminator" in node
        for target in node["discriminator"].get("mapping", {}).values()
    }
    words = {name for name, schema in schemas.items() if "enum" in schema}
    for name, schema in schemas.items():
        for node in _nodes(schema):
            if "properties" in node and node.get("type") == "object":
                _soften_object(name, node, closed=name in asked, tags=tags, words=words)
        schema.pop("title", None)
    for name in words - asked:
        del schemas[name]
    return soft


def _soften_object(name: str, node: Json, *, closed: bool, tags: set[tuple[str, str]], words: set[str]) -> None:
    """Descriptions of fields go into the class's own, so that a field's type stays a plain type."""
    node.pop("additionalProperties", None)
    about = [f"{field}: {text}" for field, schema in node["properties"].items() for text in _descriptions(schema)]
    if about:
        node["description"] = "\n\n".join([*filter(None, [node.get("description")]), "\n".join(about)])
    for field, schema in node["properties"].items():
        if closed and field not in node.get("required", ()):
            _drop_null(schema)
        for inner in _nodes(schema):
            for bound in BOUNDS & inner.keys():
                if not isinstance(inner[bound], dict):
                    del inner[bound]
            if not closed and "enum" in inner and (name, field) not in tags:
                del inner["enum"]
            if not closed and inner.get("$ref", "").rsplit("/", 1)[-1] in words:
                del inner["$ref"]
                inner["type"] = "string"


def _descriptions(schema: Json) -> list[str]:
    """Takes the descriptions out of a field's schema."""
    return [inner.pop("description") for inner in list(_nodes(schema)) if isinstance(inner.get("description"), str)]


def _drop_null(schema: Json) -> None:
    """In a request null is the same as absent, and the SDK knows only absent."""
    schema.pop("default", None)
    arms = [arm for arm in schema.get("anyOf", ()) if arm != {"type": "null"}]
    if len(arms) == 1:
        del schema["anyOf"]
        schema.update(arms[0])
    elif arms:
        schema["anyOf"] = arms


def _nodes(value: object) -> Iterator[Json]:
    """Every object inside, itself included; not into `default` and `mapping`, which are data."""
    if isinstance(value, dict):
        node = cast("Json", value)
        yield node
        for key, inner in node.items():
            if key not in ("default", "mapping"):
                yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _nodes(inner)


def _reachable(schemas: Json, root: str) -> set[str]:
    found: set[str] = set()
    open_names = [root]
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        found.add(name)
        open_names.extend(node["$ref"].rsplit("/", 1)[1] for node in _nodes(schemas[name]) if "$ref" in node)
    return found


def types_source(document: Json) -> str:
    """The generated module. Absent and null are both None; what is None is not sent (`museway._shape.Shape`)."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "openapi.json"), Path(folder, "types.py")
        source.write_text(json.dumps(soften(document)), encoding="utf-8")
        command = [sys.executable, "-m", "datamodel_code_generator"]
        command += ["--input", str(source), "--input-file-type", "openapi", "--output", str(target)]
        command += ["--output-model-type", "msgspec.Struct", "--base-class", "museway._shape.Shape"]
        command += ["--target-python-version", "3.11", "--use-union-operator", "--use-standard-collections"]
        command += ["--enum-field-as-literal", "all", "--use-msgspec-tagged-unions", "--keyword-only"]
        command += ["--use-schema-description", "--use-field-description", "--output-datetime-class", "datetime"]
        command += ["--disable-timestamp", "--openapi-scopes", "schemas", "--formatters", "builtin"]
        command += ["--custom-file-header", TYPES_HEADER]
        subprocess.run(command, check=True, cwd=folder)
        code = target.read_text(encoding="utf-8")
    code = _ABSENT.sub(r" | None\1 = None", formatted(code))
    for given, ours in NAMES.items():
        code = re.sub(rf"\b{given}\b", ours, code)
    names = sorted(line.split("(")[0].removeprefix("class ") for line in code.splitlines() if line.startswith("class "))
    names += sorted(line.split(":")[0] for line in code.splitlines() if ": TypeAlias = " in line)
    exports = "\n\n__all__ = [" + ", ".join(f'"{name}"' for name in sorted(names)) + "]\n"
    return formatted(code + exports)


def operations_source(document: Json) -> str:
    parts = [OPERATIONS_HEADER]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append("\n".join(_function(path, method, operation)))
    return "\n\n\n".join(parts) + "\n"


def _function(path: str, method: str, operation: Json) -> Iterator[str]:
    parameters = [p for p in operation.get("parameters", []) if p["in"] in ("path", "query")]
    answers = dict(_answers(operation))
    kinds = " | ".join(dict.fromkeys(answers.values()))
    yield f"def {operation['operationId']}({_signature(operation, parameters)}) -> Call[{kinds}]:"
    yield from _docstring(operation, parameters)
    yield f"    return Call(method={method.upper()!r}, path={_path(path, parameters)}, "
    query = [p for p in parameters if p["in"] == "query"]
    if query:
        yield "        query={" + ", ".join(f"{p['name']!r}: {p['name']}" for p in query) + "},"
    if "requestBody" in operation:
        yield "        body=body,"
    if not operation.get("security", True):
        yield "        secured=False,"
    yield "        answers={" + ", ".join(f"{status}: {kind}" for status, kind in answers.items()) + "},"
    yield "    )"


def _signature(operation: Json, parameters: list[Json]) -> str:
    first = [f"{p['name']}: {_type(p['schema'])}" for p in parameters if p["in"] == "path"]
    if "requestBody" in operation:
        first.append(f"body: {_type(operation['requestBody']['content']['application/json']['schema'])}")
    query = [p for p in parameters if p["in"] == "query"]
    if query:
        first.append("*")
    required = [f"{p['name']}: {_type(p['schema'])}" for p in query if p["required"]]
    optional = [f"{p['name']}: {_type(p['schema'])} | None = None" for p in query if not p["required"]]
    return ", ".join([*first, *required, *optional])


def _answers(operation: Json) -> Iterator[tuple[int, str]]:
    """The statuses that are answers, not refusals."""
    for status, response in operation["responses"].items():
        kind = _type(response["content"]["application/json"]["schema"])
        if kind != "types.ErrorBody":
            yield int(status), kind


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return "types." + schema["$ref"].rsplit("/", 1)[1]
    if "enum" in schema:
        return f"Literal[{', '.join(repr(value) for value in schema['enum'])}]"
    match schema.get("type"):
        case "array":
            return f"Sequence[{_type(schema['items'])}]"
        case "object":
            return f"dict[str, {_type(schema['additionalProperties'])}]"
        case "integer":
            return "int"
        case "string":
            return "str"
        case other:
            raise ValueError(f"no Python type for {other!r}")


def _path(path: str, parameters: list[Json]) -> str:
    names = [p["name"] for p in parameters if p["in"] == "path"]
    if not names:
        return repr(path)
    assert not any(keyword.iskeyword(name) for name in names)
    return f"encode_path({path!r}, {', '.join(f'{name}={name}' for name in names)})"


def _docstring(operation: Json, parameters: list[Json]) -> Iterator[str]:
    lines = [operation["summary"] + "."]
    if "description" in operation:
        lines += ["", *textwrap.wrap(operation["description"], 108)]
    if parameters:
        lines.append("")
        lines += [f"{p['name']}: {p['description']}" for p in parameters]
    yield '    """' + lines[0]
    yield from (f"    {line}".rstrip() for line in lines[1:])
    yield '    """'


def formatted(code: str) -> str:
    """As ruff formats the repository. Not under its own name: ruff keeps unused imports of an `__init__.py`."""
    for arguments in (["check", "--fix-only", "--quiet", "--select", "I,F401,RUF022"], ["format"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            "--stdin-filename",
            str(SDK / "museway" / "generated.py"),
            "-",
        ]
        code = subprocess.run(command, input=code, text=True, check=True, capture_output=True, cwd=SDK).stdout
    return code


def sources() -> dict[Path, str]:
    document: Json = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return {TYPES: types_source(document), OPERATIONS: formatted(operations_source(document))}


def main(argv: list[str]) -> int:
    check = argv == ["--check"]
    status = 0
    for path, code in sources().items():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(code, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != code:
            sys.stderr.write(f"{path.relative_to(SDK)} is out of date: python sdk/codegen/generate.py\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
