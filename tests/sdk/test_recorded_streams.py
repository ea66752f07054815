"""OpenAI's recorded streams, read by our client over a real connection, cut into pieces of every size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doubles.scripted_server import ScriptedServer, by_pieces, stream
from museway import AsyncMuseway, Finished, Museway, OutputDelta, ToolCallDelta

RECORDINGS = sorted((Path(__file__).parent / "fixtures").glob("*.sse"))


def recorded(path: Path) -> bytes:
    return path.read_bytes()


def told(body: bytes) -> tuple[str, dict[int, str], str | None]:
    """Text, arguments by tool call, finish reason of choice 0, read in the plainest way."""
    text, calls, finish = "", dict[int, str](), None
    for line in body.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        choices: list[Any] = json.loads(line.removeprefix("data: "))["choices"]
        for choice in (choice for choice in choices if choice["index"] == 0):
            delta = choice["delta"]
            text += delta.get("content") or delta.get("refusal") or ""
            for call in delta.get("tool_calls") or ():
                calls[call["index"]] = calls.get(call["index"], "") + (call["function"].get("arguments") or "")
            finish = choice["finish_reason"] or finish
    return text, calls, finish


def test_all_recordings_are_here() -> None:
    assert len(RECORDINGS) == 12


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [7, 100_000])
def test_a_recording(path: Path, size: int, server: ScriptedServer, client: Museway) -> None:
    body = recorded(path)
    text, calls, finish = told(body)
    server.script(stream(*by_pieces(body, size)))
    with client.stream("x") as events:
        seen = list(events)
    reply = events.reply
    assert (reply.text, reply.finish_reason) == (text, finish)
    assert {index: call.arguments for index, call in enumerate(reply.tool_calls)} == calls
    assert "".join(event.text for event in seen if isinstance(event, OutputDelta)) == text
    assert "".join(e.arguments for e in seen if isinstance(e, ToolCallDelta)) == "".join(calls.values())
    assert seen[-1] == Finished(reply)


@pytest.mark.anyio
@pytest.mark.parametrize("path", RECORDINGS[:3], ids=lambda path: path.stem)
async def test_a_recording_on_an_event_loop(path: Path, server: ScriptedServer, async_client: AsyncMuseway) -> None:
    body = recorded(path)
    server.script(stream(*by_pieces(body, 50)))
    async with async_client.stream("x") as events:
        seen = [event async for event in events]
    assert events.reply.text == told(body)[0]
    assert seen[-1] == Finished(events.reply)
