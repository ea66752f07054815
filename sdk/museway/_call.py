"""What to send and how to read the answer, as data. Nothing here sends anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

Answer = TypeVar("Answer")
QueryValue = str | int | Sequence[str] | None

_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, Generic[Answer], frozen=True, kw_only=True):
    """One operation with its arguments. `answers` maps each status that is an answer to its type; all others are errors.

    A query value of None is left out; a list repeats its name.
    """

    method: Literal["GET", "POST"]
    path: str
    answers: Mapping[int, Any]
    query: Mapping[str, QueryValue] = {}
    body: msgspec.Struct | None = None
    secured: bool = True

    def target(self) -> str:
        """The path with its query."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.query.items():
            if value is None:
                continue
            values = [str(value)] if isinstance(value, str | int) else list(value)
            pairs.extend((name, one) for one in values)
        return f"{self.path}?{urlencode(pairs)}" if pairs else self.path

    def content(self) -> bytes | None:
        return None if self.body is None else _encode(self.body)

    def read(self, status: int, body: bytes) -> Answer:
        """Raises msgspec.DecodeError where the body is not what the status promises."""
        answer: Answer = _decoder(self.answers[status]).decode(body)
        return answer


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def encode_path(template: str, **values: str) -> str:
    """Fill `{name}` in a path; a value may hold anything, a slash included."""
    return template.format(**{name: quote(value, safe="") for name, value in values.items()})
