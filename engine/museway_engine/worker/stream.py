"""A chat answer → our events, in batches: all that one read brought. The hot path of the gateway.

Measured by `tests/bench/engine_chunk.py`. One engine call carries one choice, so the worker's `index` is not read.
"""

from __future__ import annotations

import msgspec

from museway_engine.events import UNKNOWN, Output, Reasoning, ToolCall
from museway_engine.worker.errors import read_failure
from museway_engine.worker.shapes import (
    NULL,
    AnswerChoice,
    Delta,
    answer_decoder,
    chunk_decoder,
)
from museway_engine.worker.sse import DONE, EventSplitter
from museway_engine.worker.tally import Tally, finish_of

ChatEvent = Output | Reasoning | ToolCall
_EMPTY = b'""'
_decode = chunk_decoder.decode


class Malformed(Exception):
    """The worker sent what is no answer of SGLang's. Never read as zero."""


class ChatStream:
    """Reads one choice of a streamed chat answer. `tally` holds counts, finish and failure."""

    __slots__ = ("_choice", "_rid", "_split", "tally")

    def __init__(self, rid: str, choice: int) -> None:
        self._rid = rid
        self._choice = choice
        self._split = EventSplitter()
        self.tally = Tally()

    def feed(self, data: bytes) -> list[ChatEvent]:
        """The events that `data` completed; [] is common. Raises Malformed."""
        events: list[ChatEvent] = []
        for payload in self._split.feed(data):
            if payload == DONE:
                self.tally.is_over = True
            elif payload:
                self._take(payload, events)
        return events

    def end(self) -> list[ChatEvent]:
        """The body ended."""
        return []

    def _take(self, payload: bytes, events: list[ChatEvent]) -> None:
        try:
            chunk = _decode(payload)
        except msgspec.MsgspecError as error:
            raise Malformed from error
        tally = self.tally
        usage = chunk.usage
        n = UNKNOWN
        if usage is not None:
            tally.take_usage(usage)
            if usage.completion_tokens is not None:
                n = usage.completion_tokens
        if not chunk.choices:
            if len(chunk.error) > 4:
                tally.failure = tally.failure or read_failure(200, payload)
            elif usage is not None and tally.failure is None:
                tally.is_final = True
            return
        choice = chunk.choices[0]
        delta = choice.delta
        if delta.tool_calls is not None or delta.reasoning_content != NULL:
            add_special(self._rid, self._choice, delta, n, events)
        content = bytes(delta.content)
        logprobs = None if choice.logprobs == NULL else choice.logprobs.copy()
        if content[:1] not in (b'"', b"n"):
            raise Malformed  # spliced into our own JSON, it has to be a string
        if (content != b"null" and content != _EMPTY) or logprobs is not None:
            # log probabilities go along even where a token completes no character
            events.append(Output(self._rid, self._choice, _EMPTY if content == b"null" else content, n, logprobs))
        if events:
            tally.spoke = True
        if choice.finish_reason is not None:
            tally.finish = finish_of(choice.finish_reason)


class WholeAnswer:
    """Reads one choice of a chat answer that comes in one piece: its events all come at the end of the body."""

    __slots__ = ("_choice", "_pieces", "_rid", "tally")

    def __init__(self, rid: str, choice: int) -> None:
        self._rid = rid
        self._choice = choice
        self._pieces: list[bytes] = []
        self.tally = Tally()

    def feed(self, data: bytes) -> list[ChatEvent]:
        self._pieces.append(data)
        return []

    def end(self) -> list[ChatEvent]:
        """Raises Malformed."""
        body = b"".join(self._pieces)
        try:
            answer = answer_decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise Malformed from error
        tally = self.tally
        if not answer.choices:
            tally.failure = read_failure(200, body)
            return []
        choice = answer.choices[0]
        if answer.usage is not None:
            tally.take_usage(answer.usage)
            tally.is_final = True
        tally.finish = finish_of(choice.finish_reason or "stop")
        tally.is_over = True
        events = self._events(choice)
        tally.spoke = bool(events)
        return events

    def _events(self, choice: AnswerChoice) -> list[ChatEvent]:
        message, n = choice.message, self.tally.completion
        events: list[ChatEvent] = []
        reasoning = bytes(message.reasoning_content)
        if reasoning not in (b"null", _EMPTY):
            events.append(Reasoning(self._rid, self._choice, reasoning, self.tally.reasoning if n >= 0 else UNKNOWN))
        content = bytes(message.content)
        if content not in (b"null", _EMPTY) or choice.logprobs != NULL:
            logprobs = None if choice.logprobs == NULL else choice.logprobs.copy()
            events.append(Output(self._rid, self._choice, _EMPTY if content == b"null" else content, n, logprobs))
        add_special(self._rid, self._choice, Delta(tool_calls=message.tool_calls), n, events)
        return events


def add_special(rid: str, choice: int, delta: Delta, n: int, events: list[ChatEvent]) -> None:
    """Append what a delta carries besides content."""
    reasoning = bytes(delta.reasoning_content)
    if reasoning != b"null" and reasoning != _EMPTY:
        events.append(Reasoning(rid, choice, reasoning, n))
    for place, call in enumerate(delta.tool_calls or ()):
        function = call.function
        arguments = _EMPTY if function is None or function.arguments == NULL else bytes(function.arguments)
        index = place if call.index is None else call.index
        name = None if function is None else function.name
        events.append(ToolCall(rid, choice, index, call.id if name else None, name, arguments, n))
