"""Bytes of a client → a typed shape, or one clear `BadRequest` that names the field. Never another exception.

msgspec decodes and checks; a second pass only looks for duplicate keys, on which JSON parsers disagree (the last wins
here, the first elsewhere: two parties would read two requests).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from museway_platform.wire.allowed import allowed_words
from museway_platform.wire.refusals import BadRequest

Shape = TypeVar("Shape", bound=msgspec.Struct)

MAX_DEPTH: Final = 64
"""Levels of nesting that a free-form value (a JSON Schema) may have; a worker's grammar compiler has bounds of its own."""

_SHOWN: Final = 80

_AT = re.compile(r" - at `(?:key in )?(.*)`$", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
_MISSING_FIELD = re.compile(r"^Object missing required field `(.*)`$", re.DOTALL)
_WRONG_TYPE = re.compile(r"^Expected `([^`]*)`, got `([^`]*)`$")
_OUT_OF_BOUNDS = re.compile(r"^Expected `([^`]*)` (.*)$", re.DOTALL)
_BAD_VALUE = re.compile(r"^Invalid (?:enum )?value (.*)$", re.DOTALL)
_WORDS: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


class _DuplicateKey(Exception):
    """Carries the key."""


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    keys: set[str] = set()
    for key, _ in pairs:
        if key in keys:
            raise _DuplicateKey(key)
        keys.add(key)


_duplicates = json.JSONDecoder(object_pairs_hook=_unique)


class Parser(Generic[Shape]):
    """Parses one shape. `unsupported` names the fields that others take and we refuse, each with the reason.

    Made at import and reused. `parse` raises BadRequest and nothing else.
    """

    def __init__(self, shape: type[Shape], unsupported: Mapping[str, str]) -> None:
        self._shape = shape
        self._decoder = msgspec.json.Decoder(shape)
        self._fields = [field.encode_name for field in msgspec.structs.fields(shape)]
        self._unsupported = unsupported

    @cached_property
    def _schema(self) -> dict[str, Any]:
        """For messages only: made at the first refusal, in 3 ms."""
        return msgspec.json.schema(self._shape)

    def parse(self, body: bytes) -> Shape:
        try:
            shape = self._decoder.decode(body)
            _duplicates.raw_decode(body.decode().lstrip())  # what follows the value was decoded above
        except msgspec.ValidationError as error:
            raise self._refuse(str(error)) from None
        except _DuplicateKey as error:
            key = str(error)[:_SHOWN]
            raise BadRequest(f"The key {key!r} stands twice in one object.", param=key, code="invalid_json") from None
        except UnicodeDecodeError:
            raise BadRequest("The body is not valid UTF-8.", code="invalid_json") from None
        except RecursionError:
            raise BadRequest("The body is nested too deeply.", code="invalid_json") from None
        except ValueError as error:
            raise BadRequest(f"The body is not valid JSON: {str(error)[:_SHOWN]}.", code="invalid_json") from None
        return shape

    def _refuse(self, text: str) -> BadRequest:
        """msgspec's message → ours. The texts are part of msgspec's tests; an unknown one is passed on as it is."""
        path = ""
        if at := _AT.search(text):
            text, path = text[: at.start()], at[1].removeprefix("$").removeprefix(".")
        if match := _UNKNOWN_FIELD.match(text):
            return self._unknown(match[1], path)
        if match := _MISSING_FIELD.match(text):
            param = f"{path}.{match[1]}" if path else match[1]
            return BadRequest(f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter")
        where = f" for {path!r}" if path else ""
        if match := _WRONG_TYPE.match(text):
            wanted, got = _words(match[1]), _words(match[2])
            return BadRequest(
                f"Invalid type{where}: expected {wanted}, but got {got} instead.",
                param=path or None,
                code="invalid_type",
            )
        if match := _OUT_OF_BOUNDS.match(text):
            return BadRequest(f"Invalid value{where}: expected {_words(match[1])} {match[2]}.", param=path or None)
        if match := _BAD_VALUE.match(text):
            words = ", ".join(repr(word) for word in allowed_words(self._schema, path))
            taken = f"one of {words}" if words else "one we take"
            return BadRequest(f"Invalid value{where}: {match[1][:_SHOWN]} is not {taken}.", param=path or None)
        return BadRequest(f"Invalid value{where}: {text[:_SHOWN]}.", param=path or None)

    def _unknown(self, name: str, path: str) -> BadRequest:
        shown = name[:_SHOWN]
        param = f"{path}.{shown}" if path else shown
        reason = self._unsupported.get(name)
        if reason is not None:
            return BadRequest(f"Unsupported parameter: {param!r}. {reason}", param=param, code="unsupported_parameter")
        near = get_close_matches(shown, self._fields, n=1) if not path else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return BadRequest(f"Unknown parameter: {param!r}.{hint}", param=param, code="unknown_parameter")


def _words(types: str) -> str:
    """`int | null` → "an integer": null is always also allowed by leaving the field out."""
    names = [_WORDS.get(name, name) for name in types.split(" | ")]
    return " or ".join(name for name in names if name != "null" or len(names) == 1)


Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def free_object(text: bytes, param: str) -> msgspec.Raw:
    """A free-form JSON object that is passed on as it is, once it is known to be one.

    Raises BadRequest where it is no object, not valid JSON text or nested deeper than `MAX_DEPTH`.
    """
    try:
        value: Json = _anything.decode(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"Invalid value for {param!r}: not valid JSON.", param=param, code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest(f"Invalid type for {param!r}: expected an object.", param=param, code="invalid_type")
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadRequest(f"Invalid value for {param!r}: nested deeper than {MAX_DEPTH} levels.", param=param)
    return msgspec.Raw(text)


def _depth(value: Json) -> int:
    """Levels of objects and arrays, found without recursion."""
    depth, level = 0, [value]
    while level:
        depth += any(isinstance(item, dict | list) for item in level)
        level = [inner for item in level for inner in _inside(item)]
    return depth


def _inside(value: Json) -> list[Json]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
