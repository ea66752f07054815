"""The smallest JSON text that a schema admits, as a constrained model would be made to write."""

import json
from typing import Any, cast

from doubles.fake_worker.refusal import Refusal
from doubles.fake_worker.shapes import JsonObject

_DEPTH_MAX = 32


def minimal_text(schema: JsonObject) -> str:
    """Compact JSON. Raises Refusal for a type that no JSON value has, as the grammar compiler does."""
    return json.dumps(_value(schema, schema, 0), separators=(",", ":"), ensure_ascii=False)


def _value(schema: Any, root: JsonObject, depth: int) -> Any:
    if depth > _DEPTH_MAX or not isinstance(schema, dict):
        return None
    node = cast("JsonObject", schema)
    if "const" in node:
        return node["const"]
    if node.get("enum"):
        return node["enum"][0]
    if "$ref" in node:
        return _value(_resolve(str(node["$ref"]), root), root, depth + 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if node.get(several):
            return _value(node[several][0], root, depth + 1)
    kind = node.get("type", "object" if "properties" in node else "null")
    if isinstance(kind, list):
        kind = cast("list[str]", kind)[0]
    match kind:
        case "object":
            wanted = node.get("required", [])
            return {name: _value(node.get("properties", {}).get(name), root, depth + 1) for name in wanted}
        case "array":
            return [_value(node.get("items"), root, depth + 1)] * int(node.get("minItems", 0))
        case "string":
            return "x" * int(node.get("minLength", 0))
        case "integer" | "number":
            return _number(node)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            raise Refusal(
                400,
                f'Failed to compile json grammar: /project/cpp/json_schema_converter.cc:4175: Unsupported type "{kind}"\n',
            )


def _number(node: JsonObject) -> int | float:
    if "minimum" in node:
        return cast("int | float", node["minimum"])
    if "exclusiveMinimum" in node:
        return cast("int | float", node["exclusiveMinimum"]) + 1
    return min(0, cast("int | float", node.get("maximum", 0)))


def _resolve(reference: str, root: JsonObject) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found[part]
    return found
