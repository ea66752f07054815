"""Batches of engine events → the bytes of a chat answer: a stream of chunks, or one JSON object.

The worker's text arrives as a JSON string literal and is spliced into a template made once per request: nothing is decoded
on the way (DESIGN §9). Text events of one choice that stand side by side in a batch become one chunk. Shapes: `answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from museway_engine.events import (
    Agent,
    AnyEvent,
    Chosen,
    Done,
    Finish,
    FinishReason,
    Output,
    PhaseStarted,
    Reasoning,
    ToolCall,
)
from museway_platform.wire import sse
from museway_platform.wire.chat.answers import AgentProgress, ChosenProgress, Logprobs, PhaseProgress, TokenLogprob
from museway_platform.wire.chat.decode import ChatCall
from museway_platform.wire.chat.usage import Museway, Usage
from museway_platform.wire.refusals import ErrorBody

_json: Final = msgspec.json.Encoder().encode
_logprobs: Final = msgspec.json.Decoder(dict[str, list[TokenLogprob] | None])
_FINISHED: Final = frozenset({"done", "stopped", "failed"})
_QUOTE: Final = b'"'
_UNSAID: FinishReason = "stop"

FINGERPRINT: Final = "fp_museway_1"
"""What OpenAI calls the backend's configuration; changes with how answers are made."""


def completion_id(request_id: str) -> str:
    """OpenAI's spelling of an answer's id; the ULID is the request's."""
    return "chatcmpl-" + request_id.partition("_")[2]


def to_logprobs(raw: msgspec.Raw) -> list[TokenLogprob]:
    """The worker's object of one chunk; it lacks keys that OpenAI's schema requires, which the Structs add."""
    return _logprobs.decode(raw).get("content") or []


class ChatStream:
    """Encodes one streamed answer: `start`, any number of `batch` and `keepalive`, then `end` or `error`, once.

    `created` is seconds since the epoch; `fingerprint` names the configuration that answers.
    """

    def __init__(self, call: ChatCall, *, created: int, fingerprint: str = FINGERPRINT) -> None:
        completion = call.completion
        self._call = call
        self._n = completion.n
        self._envelope = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"system_fingerprint":%b,"choices":['
            % (_json(completion_id(completion.request_id)), created, _json(call.model_as_asked), _json(fingerprint))
        )
        end = b',"usage":null}\n\n' if call.include_usage else b"}\n\n"
        self._heads = [b'%b{"index":%d,"delta":{' % (self._envelope, index) for index in range(completion.n)]
        self._content = [head + b'"content":' for head in self._heads]
        self._reasoning = [head + b'"reasoning_content":' for head in self._heads]
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + end
        self._empty_tail = end
        self._finish: dict[int, FinishReason] = {}
        self._agents: set[int] = set()
        self._finished: set[int] = set()

    def start(self) -> bytes:
        """The role chunk of every choice."""
        role = b'"role":"assistant","content":"","refusal":null'
        return b"".join([head + role + self._tail for head in self._heads])

    def batch(self, events: Sequence[AnyEvent]) -> bytes:
        """The chunks of one batch; b"" where nothing of it is for the client."""
        if len(events) == 1:
            event = events[0]
            if isinstance(event, Output) and event.logprobs is None:
                return b"%b%b%b" % (self._content[event.choice], event.json, self._tail)
        parts: list[bytes] = []
        run: list[bytes] = []
        head = b""
        for event in events:
            if isinstance(event, Output) and event.logprobs is None:
                next_head = self._content[event.choice]
            elif isinstance(event, Reasoning):
                next_head = self._reasoning[event.choice]
            else:
                if run:
                    parts.append(self._text(head, run))
                    run = []
                parts.append(self._other(event))
                continue
            if run and next_head is not head:
                parts.append(self._text(head, run))
                run = []
            head = next_head
            run.append(event.json)
        if run:
            parts.append(self._text(head, run))
        return b"".join(parts)

    def end(self, usage: Usage | None, museway: Museway) -> bytes:
        """The finish chunk of every choice, the usage chunk where it was asked for, and `[DONE]`.

        `usage` is None where a count is still being reconciled: the chunk then says null.
        """
        parts: list[bytes] = []
        with_usage = self._call.include_usage
        for index in range(self._n):
            reason = self._finish.get(index, _UNSAID)
            last = index == self._n - 1 and not with_usage
            end = b',"museway":%b}\n\n' % _json(museway) if last else self._empty_tail
            parts.append(
                b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b'
                % (self._envelope, index, reason.encode(), end)
            )
        if with_usage:
            parts.append(b'%b],"usage":%b,"museway":%b}\n\n' % (self._envelope, _json(usage), _json(museway)))
        parts.append(sse.DONE)
        return b"".join(parts)

    def error(self, body: ErrorBody) -> bytes:
        """The last words of a stream that broke off."""
        return sse.data(_json(body)) + sse.DONE

    def keepalive(self) -> bytes:
        return sse.KEEP_ALIVE

    def _text(self, head: bytes, literals: list[bytes]) -> bytes:
        if len(literals) == 1:
            return b"%b%b%b" % (head, literals[0], self._tail)
        return b'%b"%b"%b' % (head, b"".join([literal[1:-1] for literal in literals]), self._tail)

    def _other(self, event: AnyEvent) -> bytes:
        match event:
            case Output():
                return self._with_logprobs(event)
            case ToolCall():
                return b"%b%b%b" % (self._heads[event.choice], _tool_delta(event), self._tail)
            case Finish():
                self._finish[event.choice] = event.reason
                return b""
            case Agent() | PhaseStarted() | Chosen():
                return self._progress(event)
            case Reasoning() | Done():
                return b""
            case _:
                assert_never(event)

    def _with_logprobs(self, event: Output) -> bytes:
        logprobs = None if event.logprobs is None else Logprobs(content=to_logprobs(event.logprobs))
        return b'%b%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._content[event.choice],
            event.json,
            _json(logprobs),
            self._empty_tail,
        )

    def _progress(self, event: Agent | PhaseStarted | Chosen) -> bytes:
        """A chunk without choices where it was asked for, else a comment when one more agent is done."""
        if self._call.progress:
            return b'%b],"museway":{"progress":%b}%b' % (self._envelope, _json(_to_progress(event)), self._empty_tail)
        if not isinstance(event, Agent):
            return b""
        self._agents.add(event.index)
        if event.state not in _FINISHED or event.index in self._finished:
            return b""
        self._finished.add(event.index)
        return sse.comment(f"agents {len(self._finished)}/{len(self._agents)}")


def _tool_delta(event: ToolCall) -> bytes:
    if event.id is None or event.name is None:
        return b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (event.index, event.arguments)
    return b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}]' % (
        event.index,
        _json(event.id),
        _json(event.name),
        event.arguments,
    )


def _to_progress(event: Agent | PhaseStarted | Chosen) -> AgentProgress | PhaseProgress | ChosenProgress:
    match event:
        case Agent():
            return AgentProgress(
                index=event.index,
                phase=event.phase,
                state=event.state,
                tokens=event.tokens,
                agree=event.agree,
                finished=event.finished,
            )
        case PhaseStarted():
            return PhaseProgress(phase=event.phase, round=event.round, drafts=event.drafts)
        case Chosen():
            return ChosenProgress(mode=event.mode, rule=event.rule)
        case _:
            assert_never(event)


class _Call:
    """One tool call as its pieces come in."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[bytes] = []


class _Choice:
    """One choice as its events come in. Text is kept as the insides of JSON literals."""

    __slots__ = ("calls", "content", "finish", "logprobs", "reasoning")

    def __init__(self) -> None:
        self.content: list[bytes] = []
        self.reasoning: list[bytes] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: dict[int, _Call] = {}
        self.finish: FinishReason = _UNSAID

    def message(self) -> bytes:
        parts = [b'{"role":"assistant","content":']
        parts.append(b"null" if self.calls and not self.content else _literal(self.content))
        parts.append(b',"refusal":null')
        if self.reasoning:
            parts.append(b',"reasoning_content":' + _literal(self.reasoning))
        if self.calls:
            calls = [_tool_call(self.calls[index]) for index in sorted(self.calls)]
            parts.append(b',"tool_calls":[%b]' % b",".join(calls))
        parts.append(b"}")
        return b"".join(parts)


def _literal(insides: list[bytes]) -> bytes:
    return b'"%b"' % b"".join(insides)


def _tool_call(call: _Call) -> bytes:
    return b'{"id":%b,"type":"function","function":{"name":%b,"arguments":%b}}' % (
        _json(call.id),
        _json(call.name),
        _literal(call.arguments),
    )


class ChatAnswer:
    """Collects one answer and writes it as one JSON object: any number of `add`, then `body`, once."""

    def __init__(self, call: ChatCall, *, created: int, fingerprint: str = FINGERPRINT) -> None:
        self._call = call
        self._created = created
        self._fingerprint = fingerprint
        self._choices = [_Choice() for _ in range(call.completion.n)]

    def add(self, events: Sequence[AnyEvent]) -> None:
        for event in events:
            match event:
                case Output():
                    choice = self._choices[event.choice]
                    choice.content.append(event.json[1:-1])
                    if event.logprobs is not None:
                        choice.logprobs.extend(to_logprobs(event.logprobs))
                case Reasoning():
                    self._choices[event.choice].reasoning.append(event.json[1:-1])
                case ToolCall():
                    call = self._choices[event.choice].calls.setdefault(event.index, _Call())
                    call.id = call.id or event.id or ""
                    call.name = call.name or event.name or ""
                    call.arguments.append(event.arguments[1:-1])
                case Finish():
                    self._choices[event.choice].finish = event.reason
                case Agent() | PhaseStarted() | Chosen() | Done():
                    pass
                case _:
                    assert_never(event)

    def body(self, usage: Usage | None, museway: Museway) -> bytes:
        """The whole answer. `usage` is None where a count is still being reconciled."""
        completion = self._call.completion
        choices = [self._choice(index, choice) for index, choice in enumerate(self._choices)]
        return (
            b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"system_fingerprint":%b,"choices":[%b]'
            b',"usage":%b,"museway":%b}'
        ) % (
            _json(completion_id(completion.request_id)),
            self._created,
            _json(self._call.model_as_asked),
            _json(self._fingerprint),
            b",".join(choices),
            _json(usage),
            _json(museway),
        )

    def _choice(self, index: int, choice: _Choice) -> bytes:
        asked = self._call.completion.sampling.logprobs
        logprobs = _json(Logprobs(content=choice.logprobs)) if asked else b"null"
        return b'{"index":%d,"message":%b,"logprobs":%b,"finish_reason":"%b"}' % (
            index,
            choice.message(),
            logprobs,
            choice.finish.encode(),
        )
