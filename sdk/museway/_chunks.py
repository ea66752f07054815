"""Chunks of a stream → events and, at the end, a reply. Pure. Reads plain OpenAI chunks too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from museway import types
from museway._sse import EventReader
from museway.errors import InvalidAnswerError, StreamInterruptedError, stream_error
from museway.events import (
    AgentProgress,
    Event,
    Finished,
    ModeChosen,
    OutputDelta,
    PhaseStarted,
    ReasoningDelta,
    ToolCallDelta,
    UsageReport,
)
from museway.reply import Cost, RateLimit, Reply, ToolCall


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: int
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct):
    delta: _Delta
    index: int = 0
    finish_reason: str | None = None


class _Usage(Struct):
    """As `types.Usage`; other servers leave the details out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: types.PromptTokensDetails | None = None
    completion_tokens_details: types.CompletionTokensDetails | None = None

    def whole(self) -> types.Usage:
        return types.Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.total_tokens,
            prompt_tokens_details=self.prompt_tokens_details or types.PromptTokensDetails(cached_tokens=0),
            completion_tokens_details=self.completion_tokens_details
            or types.CompletionTokensDetails(reasoning_tokens=0),
        )


class _Chunk(Struct):
    """Only what we read. `museway` is decoded by what stands in it; absent is an empty Raw."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    museway: Raw = field(default_factory=Raw)
    error: Raw = field(default_factory=Raw)


class _Progress(Struct):
    progress: Raw = field(default_factory=Raw)


class _Kind(Struct):
    type: str


_chunk: Final = msgspec.json.Decoder(_Chunk)
_progress: Final = msgspec.json.Decoder(_Progress)
_kind: Final = msgspec.json.Decoder(_Kind)
_museway: Final = msgspec.json.Decoder(types.Museway)
_KINDS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    "agent": msgspec.json.Decoder(AgentProgress),
    "phase": msgspec.json.Decoder(PhaseStarted),
    "chosen": msgspec.json.Decoder(ModeChosen),
}
_DONE: Final = b"[DONE]"


def _said(raw: Raw) -> bytes:
    """The JSON of an optional field; empty where it is absent or null."""
    text = bytes(raw)
    return b"" if text == b"null" else text


class ChunkReader:
    """Reads one stream: `feed` pieces until `done`, then `reply` is whole; `end` where the bytes end."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._events = EventReader()
        self._rate_limit = RateLimit.of(headers)
        self._request_id = headers.get("x-request-id")
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._finish_reason: str | None = None
        self._usage: types.Usage | None = None
        self._museway: types.Museway | None = None
        self.done = False
        self.has_begun = False
        """A whole event has come."""

    @property
    def last_event_id(self) -> str | None:
        """Where to go on after a cut; None where the server can't."""
        return self._events.last_id

    def reconnected(self) -> None:
        """What is fed from here on goes on after the last whole event; half of one that was cut is forgotten."""
        last = self._events.last_id
        self._events = EventReader()
        self._events.last_id = last

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Raises StatusError where the stream says an error, InvalidAnswerError where a chunk can't be read."""
        for data in self._events.feed(piece):
            self.has_begun = True
            if data == _DONE:
                self.done = True
                yield Finished(self.reply())
                return
            yield from self._read(data)

    def end(self) -> None:
        """The bytes are over. Raises StreamInterruptedError where `[DONE]` had not come."""
        if not self.done:
            raise StreamInterruptedError(
                "The stream broke off before its end.", partial=self.reply(), request_id=self._request_id
            )

    def reply(self) -> Reply:
        """What has come so far."""
        said = self._museway
        return Reply(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(ToolCall(c[0], c[1], "".join(c[2:])) for _, c in sorted(self._calls.items())),
            finish_reason=self._finish_reason,
            usage=self._usage,
            cost=None if said is None else Cost(said.cost_nano_usd),
            mode=None if said is None else said.mode,
            agents=() if said is None else tuple(said.agents or ()),
            request_id=self._request_id if said is None else said.request_id,
            rate_limit=self._rate_limit,
            museway=said,
        )

    def _read(self, data: bytes) -> Iterator[Event]:
        try:
            chunk = _chunk.decode(data)
            if _said(chunk.error):
                raise stream_error(data, self._request_id)
            for choice in chunk.choices:
                if choice.index == 0:
                    yield from self._choice(choice)
            if chunk.usage is not None:
                self._usage = chunk.usage.whole()
            if museway := _said(chunk.museway):
                yield from self._extra(museway)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidAnswerError(
                f"A chunk of the stream can't be read: {error}", request_id=self._request_id
            ) from error

    def _choice(self, choice: _Choice) -> Iterator[Event]:
        delta = choice.delta
        if delta.reasoning_content:
            self._reasoning.append(delta.reasoning_content)
            yield ReasoningDelta(delta.reasoning_content)
        text = delta.content or delta.refusal
        if text:
            self._text.append(text)
            yield OutputDelta(text)
        for call in delta.tool_calls or ():
            yield self._tool_call(call)
        self._finish_reason = choice.finish_reason or self._finish_reason

    def _tool_call(self, call: _ToolCall) -> ToolCallDelta:
        function = call.function or _Function()
        pieces = self._calls.setdefault(call.index, ["", ""])
        pieces[0] = pieces[0] or call.id or ""
        pieces[1] = pieces[1] or function.name or ""
        pieces.append(function.arguments or "")
        return ToolCallDelta(call.index, call.id, function.name, function.arguments or "")

    def _extra(self, said: bytes) -> Iterator[Event]:
        """Progress, or the bill. A kind of progress that this version does not know is skipped."""
        progress = _said(_progress.decode(said).progress)
        if not progress:
            self._museway = _museway.decode(said)
            yield UsageReport(self._usage, Cost(self._museway.cost_nano_usd), self._museway)
            return
        decoder = _KINDS.get(_kind.decode(progress).type)
        if decoder is not None:
            event: Event = decoder.decode(progress)
            yield event
