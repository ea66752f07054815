"""Which words a field takes, looked up in the JSON Schema of its shape: only for messages of refusals, never on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


def allowed_words(schema: Schema, path: str) -> list[str]:
    """The words of the field at `path`, as `messages[0].role`; empty where it takes others than words, or where the path
    alone does not tell (another role has other kinds of parts)."""
    *steps, last = _STEP.findall(path) or [""]
    parents: list[Schema] = [schema]
    for step in steps:
        parents = [found for parent in parents for found in _inside(schema, parent, step)]
    words = {frozenset(_words(schema, parent, last)) for parent in parents}
    return sorted(words.pop()) if len(words) == 1 else []


def _words(schema: Schema, parent: Schema, field: str) -> Iterator[str]:
    for found in _inside(schema, parent, field):
        for arm in _arms(schema, found):
            yield from arm.get("enum", ())


def _inside(schema: Schema, parent: Schema, step: str) -> Iterator[Schema]:
    for arm in _arms(schema, parent):
        found = arm.get("items") if step.startswith("[") else arm.get("properties", {}).get(step)
        if found is not None:
            yield found


def _arms(schema: Schema, node: Schema) -> Iterator[Schema]:
    """What a node can be, references followed."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in node:
        for arm in node["anyOf"]:
            yield from _arms(schema, arm)
    else:
        yield node
