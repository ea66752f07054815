"""A plain client of the worker's wire: whole answers and event streams, nothing interpreted."""

import http.client
import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

JsonObject: TypeAlias = dict[str, Any]
_PATIENCE_S = 60.0


class Answer(Struct):
    """A whole answer; `events` where it was a stream, `[DONE]` as a text."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> JsonObject:
        decoded: JsonObject = json.loads(self.body)
        return decoded

    @property
    def events(self) -> list[Any]:
        lines = [line for line in self.body.decode().split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines), lines
        return [json.loads(line[6:]) if line != "data: [DONE]" else "[DONE]" for line in lines]


@contextmanager
def opened(url: str, path: str, body: JsonObject | None = None) -> Generator[http.client.HTTPResponse]:
    """The answer while it comes; leaving closes the connection, whatever was left to come."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=_PATIENCE_S)
    method = "GET" if body is None else "POST"
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def call(url: str, path: str, body: JsonObject | None = None) -> Answer:
    """GET without a body, else POST."""
    with opened(url, path, body) as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())


def next_event(response: http.client.HTTPResponse) -> Any:
    """The next event of a stream."""
    while (line := response.readline()) == b"\n":
        pass
    assert line.startswith(b"data: "), line
    return json.loads(line[6:]) if line.strip() != b"data: [DONE]" else "[DONE]"
