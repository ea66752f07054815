"""`POST /v1/chat/completions`, whole and streamed."""

import asyncio
import time
import uuid

import msgspec

from doubles.fake_worker.admission import chat_run
from doubles.fake_worker.book import Entry
from doubles.fake_worker.engine import Engine, Run
from doubles.fake_worker.generation import Generation, Made
from doubles.fake_worker.http import Connection, Request
from doubles.fake_worker.refusal import QueueFull
from doubles.fake_worker.shapes import ChatBody, JsonObject
from doubles.fake_worker.speech import Lane
from doubles.fake_worker.stream import Encode, EventStream
from doubles.fake_worker.usage import chat_logprobs, usage

_APART = {"reasoning_content": (Lane.REASONING,), "content": (Lane.CONTENT,)}
_TOGETHER = {"content": (Lane.REASONING, Lane.CLOSE, Lane.CONTENT)}
_decoder = msgspec.json.Decoder(ChatBody)


async def chat(engine: Engine, encode: Encode, request: Request, connection: Connection) -> None:
    """Raises Refusal before anything is written; a full queue is told inside a stream."""
    body = _decoder.decode(request.body)
    run = chat_run(engine, body, connection.drop)
    connection.on_gone = lambda: engine.left(run)
    answer = _Answer(engine, encode, body, run, connection)
    try:
        async with engine.admitted(run):
            await (answer.stream() if body.stream else answer.whole())
    except QueueFull as refused:
        if not body.stream:
            raise
        answer.refuse(refused)


class _Answer:
    """One answer in the making."""

    def __init__(self, engine: Engine, encode: Encode, body: ChatBody, run: Run, connection: Connection) -> None:
        self._engine = engine
        self._encode = encode
        self._body = body
        self._run = run
        self._connection = connection
        self._events = EventStream(connection, run, encode)
        self._created = int(time.time())
        options = body.stream_options
        self._lanes = _APART if body.separate_reasoning else _TOGETHER
        self._wants_usage = bool(options and options.include_usage)
        self._wants_counts = bool(options and options.continuous_usage_stats) and run.behaviour.usage

    # -- streamed
    async def stream(self) -> None:
        async with asyncio.TaskGroup() as group:
            for index, generation in enumerate(self._run.generations):
                group.create_task(self._choice(index, generation))
        if self._wants_usage and self._run.behaviour.final_usage and self._run.behaviour.usage:
            for _ in range(self._run.behaviour.final_usages):
                self._events.event(self._chunk([], self._usage()))
            self._events.usage_written()
        self._events.end()

    async def _choice(self, index: int, generation: Generation) -> None:
        behaviour = self._run.behaviour
        held: list[Made] = []
        role_sent = False

        def role() -> None:
            nonlocal role_sent
            if not role_sent:
                role_sent = True
                self._delta(index, {"reasoning_content": None, "role": "assistant", "content": ""})

        def show(made: Made) -> None:
            role()
            if behaviour.malformed_after == generation.completion:
                self._events.malformed()
            if behaviour.error_event_after == generation.completion:
                self._events.event(
                    {"error": {"message": behaviour.message, "type": "InternalServerError", "code": 500}}
                )
                generation.abort(0)
            if behaviour.half_chunk_after == generation.completion:
                self._events.half(self._chunk([{"index": index, "delta": {"content": made.text}}], None))
                generation.abort(0)
            if behaviour.close_after == generation.completion:
                self._events.close()
                generation.abort(0)
            held.append(made)
            ready = len(held) >= behaviour.tokens_per_chunk and not generation.is_holding
            if ready or generation.finish is not None:
                self._content(index, generation, held)
                held.clear()

        await self._engine.decode(self._run, generation, show)
        role()
        self._content(index, generation, held)
        finish = generation.finish
        assert finish is not None
        self._delta(index, {"reasoning_content": None}, finish=self._reason(generation), matched=finish.matched)

    def _content(self, index: int, generation: Generation, held: list[Made]) -> None:
        for name, lanes in self._lanes.items():
            shown = [made for made in held if made.lane in lanes]
            text = "".join(made.text for made in shown)
            if text:
                self._delta(index, {"reasoning_content": None, name: text}, generation=generation, made=shown)
        for made in held:
            for call in made.deltas:
                whole = {"role": None, "content": None, "reasoning_content": None, "tool_calls": [call]}
                self._delta(index, whole, generation=generation)

    def _delta(
        self,
        index: int,
        delta: JsonObject,
        *,
        generation: Generation | None = None,
        made: list[Made] | None = None,
        finish: str | None = None,
        matched: int | str | None = None,
    ) -> None:
        logprobs = None
        if made and self._body.logprobs:
            logprobs = chat_logprobs(made, self._body.top_logprobs or 0, self._run.behaviour)
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
            "matched_stop": matched,
        }
        counts = None
        if generation is not None and self._wants_counts:
            details = self._engine.options.cache_details
            told, turn = generation.completion, self._run.behaviour.usage_falls_after
            told = told if turn is None or told <= turn else max(0, 2 * turn - told)
            counts = usage(self._run.entry, told, generation.reasoning, details)
        total = sum(g.completion for g in self._run.generations) if generation is not None else None
        self._events.event(self._chunk([choice], counts), count=total)

    def _id(self, choices: list[JsonObject]) -> str:
        """The rid; with several choices each has an id of its own, as each is a request of its own inside."""
        if len(self._run.generations) == 1 or not choices:
            return self._run.entry.rid
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run.entry.rid} {choices[0]['index']}").hex

    def _chunk(self, choices: list[JsonObject], counts: JsonObject | None) -> JsonObject:
        chunk: JsonObject = {
            "id": self._id(choices),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._body.model,
            "choices": choices,
        }
        if counts is not None:
            chunk["usage"] = counts
        return chunk

    def _usage(self) -> JsonObject:
        made = self._run.generations
        completion, reasoning = sum(g.completion for g in made), sum(g.reasoning for g in made)
        return usage(self._run.entry, completion, reasoning, self._engine.options.cache_details)

    def _reason(self, generation: Generation) -> str:
        assert generation.finish is not None
        reason = self._run.behaviour.finish or generation.finish.reason
        return "tool_calls" if reason == "stop" and generation.has_calls else reason

    def refuse(self, refused: QueueFull) -> None:
        """A full queue on a stream: 200, an error event, zeros, the end."""
        self._events.error(refused.event_body())
        if self._wants_usage:
            nothing = Entry(rid="", route="chat", stream=True, salt="")
            self._events.event(self._chunk([], usage(nothing, 0, 0, self._engine.options.cache_details)))
        self._events.end()

    # -- whole
    async def whole(self) -> None:
        made: list[list[Made]] = [[] for _ in self._run.generations]
        async with asyncio.TaskGroup() as group:
            for generation, shown in zip(self._run.generations, made, strict=True):
                group.create_task(self._engine.decode(self._run, generation, shown.append))
        choices = [self._message(i, g, m) for i, (g, m) in enumerate(zip(self._run.generations, made, strict=True))]
        total = sum(g.completion for g in self._run.generations)
        answer: JsonObject = {
            "id": self._run.entry.rid,
            "object": "chat.completion",
            "created": self._created,
            "model": self._body.model,
            "choices": choices,
            "usage": self._usage() if self._run.behaviour.usage else None,
            "metadata": {
                "weight_version": "default",
                "weight_versions": [{"version": "default", "start": 0, "end": total}],
            },
        }
        data = self._encode(answer)
        if not self._connection.is_gone:
            entry = self._run.entry
            entry.sent, entry.sent_bytes, entry.usage_sent = total, len(data), self._run.behaviour.usage
        self._connection.split_bytes = False
        self._connection.answer(200, data)

    def _message(self, index: int, generation: Generation, made: list[Made]) -> JsonObject:
        finish = generation.finish
        assert finish is not None
        text = {name: "".join(m.text for m in made if m.lane in lanes) for name, lanes in self._lanes.items()}
        message: JsonObject = {
            "role": "assistant",
            "content": text["content"],
            "reasoning_content": text.get("reasoning_content") or None,
        }
        if generation.has_calls:
            message["tool_calls"] = _whole_calls(made)
        logprobs = None
        if self._body.logprobs:
            shown = [m for m in made if m.lane is not Lane.END]
            logprobs = chat_logprobs(shown, self._body.top_logprobs or 0, self._run.behaviour)
        return {
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._reason(generation),
            "matched_stop": finish.matched,
        }


def _whole_calls(made: list[Made]) -> list[JsonObject]:
    calls: dict[int, JsonObject] = {}
    for delta in (d for one in made for d in one.deltas):
        call = calls.setdefault(delta["index"], {**delta, "function": dict(delta["function"])})
        if delta["id"] is None:
            call["function"]["arguments"] += delta["function"]["arguments"]
    return list(calls.values())
