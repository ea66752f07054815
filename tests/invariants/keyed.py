"""Requests with an Idempotency-Key, and streams whose events have ids: what the tests of I7 share."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

CHAT = "/v1/chat/completions"


def body(**options: Any) -> dict[str, Any]:
    return {"model": "muse", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 40, **options}


def post(client: httpx2.Client, key: str, request: dict[str, Any], **headers: str) -> httpx2.Response:
    """The whole answer, streamed or not."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(CHAT, json=request, headers={"idempotency-key": key, **named})


def event_ids(text: str) -> list[str]:
    return [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]


@contextmanager
def streaming(client: httpx2.Client, key: str, request: dict[str, Any], **headers: str) -> Generator[Iterator[str]]:
    """A stream's lines. Leaving hangs up."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with client.stream("POST", CHAT, json=request, headers={"idempotency-key": key, **named}) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer.iter_lines()


def read_events(lines: Iterator[str], count: int) -> list[str]:
    """So many whole events, as they stand in the stream."""
    events: list[str] = []
    event: list[str] = []
    for line in lines:
        event.append(line)
        if line == "":
            events.append("\n".join(event) + "\n")
            event = []
            if len(events) == count:
                break
    return events
