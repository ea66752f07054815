"""What the start-up probe found out about a model: ids, constants, and what of its profile could not be proved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from unicodedata import is_normalized, normalize

import msgspec
from msgspec import Struct

from museway_engine.completion import Completion, Tool
from museway_engine.profiles.profile import Profile


class Overhead(Struct, frozen=True, kw_only=True):
    """Tokens that the template adds: once, for each message, once where there are tools, for each tool, for each call
    of a tool. Never less than measured."""

    base: int
    message: int
    tools: int
    tool: int
    call: int


class ThinkingIds(Struct, frozen=True, kw_only=True):
    """How a chain is made by ids. From the client's prompt in the instant rendering the last `drop` ids go, `open`
    follows. `close_id` is the close tag where it is one token."""

    drop: int
    open: tuple[int, ...]
    close_id: int | None
    after_close: tuple[int, ...]
    cut: tuple[int, ...]


class Facts(Struct, frozen=True, kw_only=True):
    """One model, as its first worker showed it. `context` in tokens. `user_tail`: the ids that the template puts after
    the last user text (generation prompt included), () where that could not be found. `special`: ids that structure a
    prompt and may not come out of a draft. `notes` say what of the profile failed its proof."""

    profile: Profile
    context: int
    overhead: Overhead
    thinking: ThinkingIds
    user_tail: tuple[int, ...]
    special: frozenset[int]
    notes: tuple[str, ...] = ()

    def prompt_bound(self, completion: Completion) -> int:
        """Never less than what a worker will count for the client's messages in the instant rendering.

        A token is at least one byte of the rendered text, and the template's own tokens are measured.
        """
        overhead = self.overhead
        bound = overhead.base
        for message in completion.messages:
            bound += overhead.message + text_bytes(message.content) + text_bytes(message.name)
            bound += text_bytes(message.reasoning) + text_bytes(message.tool_call_id)
            for call in message.tool_calls:
                bound += overhead.call + text_bytes(call.name) + text_bytes(call.id) + _json_bytes(call.arguments)
        if completion.tools:
            bound += overhead.tools + sum(overhead.tool + _tool_bytes(tool) for tool in completion.tools)
        return bound


def text_bytes(text: str | None) -> int:
    """UTF-8 bytes, after normalization too where a tokenizer's NFC would make the text longer."""
    if not text:
        return 0
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    return (
        size if is_normalized("NFC", text) else max(size, len(normalize("NFC", text).encode("utf-8", "surrogatepass")))
    )


def _json_bytes(text: str) -> int:
    """A template writes JSON anew, with spaces, other numbers and perhaps escapes: the longest of its spellings."""
    try:
        return max(text_bytes(text), len(json.dumps(msgspec.json.decode(text))))
    except msgspec.MsgspecError:
        return 2 * text_bytes(text)


def _tool_bytes(tool: Tool) -> int:
    parameters = bytes(tool.parameters).decode() if tool.parameters is not None else ""
    described = text_bytes(tool.description)
    escaped = len(json.dumps(tool.description)) if tool.description else 0
    return text_bytes(tool.name) + max(described, escaped) + (_json_bytes(parameters) if parameters else 0)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two prompts share at their beginning."""
    limit = min(len(one), len(other))
    return next((i for i in range(limit) if one[i] != other[i]), limit)


def common_suffix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two prompts share at their end."""
    return common_prefix(one[::-1], other[::-1])
