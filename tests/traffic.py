"""Everything that leaves the gateway under test, held against OpenAI's own schemas.

A proxy stands between every client of the suite and the gateway: `Wiretap` passes bytes through untouched, reads the HTTP
in them, and keeps what does not validate. `start_gateway` fails the test that caused it; where a program under test starts
the gateway itself, `wiretapped` does, by being the clients' HTTP_PROXY.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

import httptools
import pytest
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parent / "openai_schemas"
_FREE_TEXT = frozenset({"content", "reasoning_content", "arguments", "id", "token", "message", "request_id", "name"})


@cache
def validator(name: str) -> Any:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


class Checked:
    """Violations found so far, and how much was looked at."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.bodies = 0
        self.events = 0
        self._seen: set[str] = set()

    def check(self, schema: str, text: str, where: str) -> None:
        """Validate once per shape: what differs only in free text or in a number is the same shape."""
        try:
            value = json.loads(text)
        except ValueError:
            self.violations.append(f"{where}: not JSON: {text[:200]}")
            return
        shape = schema + json.dumps(_skeleton(value), sort_keys=True)
        if shape in self._seen:
            return
        self._seen.add(shape)
        for error in validator(schema).iter_errors(value):
            self.violations.append(f"{where}: {schema}: {error.json_path}: {error.message[:300]}")

    def answer(self, path: str, status: int, content_type: str, body: bytes) -> None:
        """One answer of a gateway, whole or cut by whoever left."""
        where = f"{status} {path}"
        self.bodies += 1
        if status >= 400:
            self.check("ErrorResponse", body.decode(), where)
        elif path == "/v1/chat/completions" and content_type.startswith("text/event-stream"):
            self._stream(body.decode(), where)
        elif schema := _SCHEMA_OF.get(re.sub(r"^/v1/models/.*", "/v1/models/{model}", path)):
            self.check(schema, body.decode(), where)

    def _stream(self, text: str, where: str) -> None:
        *events, rest = text.split("\n\n")
        if rest:
            self.events += 1  # cut by whoever left: only whole events count
        for event in events:
            if event.startswith("id: "):  # where the request had an Idempotency-Key
                event = event.partition("\n")[2]
            if event.startswith(":") or event == "data: [DONE]":
                continue
            self.events += 1
            if not event.startswith("data: "):
                self.violations.append(f"{where}: not an event: {event[:100]}")
                continue
            data = event.removeprefix("data: ")
            schema = "ErrorResponse" if data.startswith('{"error"') else "CreateChatCompletionStreamResponse"
            self.check(schema, data, where)


_SCHEMA_OF = {
    "/v1/chat/completions": "CreateChatCompletionResponse",
    "/v1/models": "ListModelsResponse",
    "/v1/models/{model}": "Model",
    "/v1/usage": "UsageResponse",
    "/v1/costs": "UsageResponse",
}


def _skeleton(value: Any) -> Any:
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return {key: "" if key in _FREE_TEXT and isinstance(v, str) else _skeleton(v) for key, v in entries.items()}
    if isinstance(value, list):
        items = [_skeleton(item) for item in cast("list[Any]", value)]
        return [item for index, item in enumerate(items) if item not in items[:index]]
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


class _Reader:
    """HTTP/1.1 of one connection, both directions; pipelining is not read (no client of ours does it)."""

    def __init__(self, checked: Checked, *, of_others: bool) -> None:
        self._checked = checked
        self._of_others = of_others
        self._request = httptools.HttpRequestParser(_Callbacks(self._on_request))
        self._path = ""
        self._response = self._new_response()

    def _new_response(self) -> httptools.HttpResponseParser:
        self._collected = _Callbacks(self._on_response)
        return httptools.HttpResponseParser(self._collected)

    def to_server(self, data: bytes) -> None:
        self._request.feed_data(data)

    def to_client(self, data: bytes) -> None:
        self._response.feed_data(data)

    def ended(self) -> None:
        """The connection is closed: a stream cut in the middle is checked as far as it came."""
        if self._collected.body:
            self._on_response(self._collected)

    def _on_request(self, request: _Callbacks) -> None:
        self._path = httptools.parse_url(request.url).path.decode()
        request.reset()

    def _on_response(self, response: _Callbacks) -> None:
        status = self._response.get_status_code()
        if response.is_gateway or not self._of_others:
            self._checked.answer(self._path, status, response.content_type, b"".join(response.body))
        self._response = self._new_response()


class _Callbacks:
    def __init__(self, complete: Any) -> None:
        self._complete = complete
        self.reset()

    def reset(self) -> None:
        self.url = b""
        self.content_type = ""
        self.is_gateway = False
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.decode()
        elif name.lower() == b"x-request-id":  # through a forward proxy others are spoken to as well, SGLang for one
            self.is_gateway = True

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self._complete(self)


class Wiretap:
    """The proxy, in a thread of its own. `url` is where clients go; `checked` what was seen.

    Without a port it is a forward proxy (RFC 9110 §3.7): a connection goes to the authority of its first request.
    """

    def __init__(self, port: int | None = None) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self.checked = Checked()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        opening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._connection, "127.0.0.1", 0), self._loop)
        self._server = opening.result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = _Reader(self.checked, of_others=self._target is None)
        head = b""
        try:
            if (port := self._target) is None:
                head = await reader.readuntil(b"\r\n\r\n")
                port = httptools.parse_url(head.split(b" ", 2)[1]).port
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
            return
        if head:
            http.to_server(head)
            up_writer.write(head)
        down = asyncio.ensure_future(_pump(up_reader, writer, http.to_client))
        up = asyncio.ensure_future(_pump(reader, up_writer, http.to_server))
        try:
            await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
            for end in (writer, up_writer):
                end.close()
            http.ended()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Any) -> None:
    while data := await reader.read(65536):
        seen(data)
        writer.write(data)
        await writer.drain()


@pytest.fixture(scope="module")
def wiretapped() -> Iterator[Checked]:
    """What the module's clients hear of any gateway on loopback, in this process and in those that it starts."""
    with Wiretap() as tap, pytest.MonkeyPatch.context() as environment:
        environment.setenv("HTTP_PROXY", tap.url)
        yield tap.checked
    assert not tap.checked.violations, "\n".join(tap.checked.violations[:20])
