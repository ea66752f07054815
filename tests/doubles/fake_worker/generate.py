"""`POST /generate`, whole and streamed, incremental or cumulative."""

import time

import msgspec

from doubles.fake_worker.admission import generate_run
from doubles.fake_worker.engine import Engine, Run
from doubles.fake_worker.generation import Finish, Generation, Made
from doubles.fake_worker.http import Connection, Request
from doubles.fake_worker.refusal import QueueFull, Refusal
from doubles.fake_worker.shapes import GenerateBody, JsonObject
from doubles.fake_worker.stream import DONE, Encode, EventStream
from doubles.fake_worker.usage import logprob_of

_decoder = msgspec.json.Decoder(GenerateBody)


async def generate(engine: Engine, encode: Encode, request: Request, connection: Connection) -> None:
    """Raises Refusal for a whole answer; a stream is refused by an event, after status 200."""
    body = _decoder.decode(request.body)
    try:
        run = generate_run(engine, body, connection.drop)
    except Refusal as refused:
        if not body.stream or refused.status >= 500:
            raise
        connection.start_stream()
        connection.chunk(b"data: %b\n\n" % encode(refused.generate_event()))
        connection.chunk(DONE)
        connection.end_stream()
        return
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
    def __init__(self, engine: Engine, encode: Encode, body: GenerateBody, run: Run, connection: Connection) -> None:
        self._engine = engine
        self._encode = encode
        self._body = body
        self._run = run
        self._connection = connection
        self._events = EventStream(connection, run, encode)
        self._generation: Generation = run.generations[0]
        self._shown: list[Made] = []
        self._told_text = 0
        self._told = 0
        self._began = time.time()

    async def stream(self) -> None:
        behaviour, generation = self._run.behaviour, self._generation

        def show(made: Made) -> None:
            self._shown.append(made)
            if behaviour.malformed_after == generation.completion:
                self._events.malformed()
            if behaviour.error_event_after == generation.completion:
                self._events.event(Refusal(500, behaviour.message).generate_event())
                generation.abort(0)
            ready = generation.completion - self._told >= behaviour.tokens_per_chunk and not generation.is_holding
            if ready or generation.finish is not None:
                self._events.event(self._payload(), count=generation.completion)

        await self._engine.decode(self._run, generation, show)
        if self._told < generation.completion or not self._shown or generation.finish == Finish("abort"):
            self._events.event(self._payload(), count=generation.completion)
        if behaviour.usage:
            self._events.usage_written()
        self._events.end()

    async def whole(self) -> None:
        await self._engine.decode(self._run, self._generation, self._shown.append)
        data = self._encode(self._payload())
        if not self._connection.is_gone:
            entry = self._run.entry
            entry.sent, entry.sent_bytes = self._generation.completion, len(data)
            entry.usage_sent = self._run.behaviour.usage
        self._connection.answer(200, data)

    def refuse(self, refused: QueueFull) -> None:
        finish = {"type": "abort", "status_code": 503, "message": refused.message}
        self._events.event(self._unserved(finish))
        self._events.end()

    def _unserved(self, finish: JsonObject) -> JsonObject:
        """The last words to a request that never left the queue: no prompt count, no cached count."""
        meta = {"id": self._run.entry.rid, "finish_reason": finish, "weight_version": "default"}
        return {"text": "", "output_ids": [], "meta_info": {**meta, "completion_tokens": 0}}

    def _payload(self) -> JsonObject:
        """The state so far, or what is new in it."""
        if self._run.is_queued:
            return self._unserved({"type": "abort", "message": "Abort in waiting queue"})
        made, text = self._generation.ids, self._generation.text
        start, text_start = 0, 0
        if self._body.stream and not self._engine.options.cumulative:
            start, text_start = self._told, self._told_text
        self._told, self._told_text = len(made), max(self._told_text, len(text))
        return {"text": text[text_start:], "output_ids": made[start:], "meta_info": self._meta(start)}

    def _meta(self, start: int) -> JsonObject:
        entry, now = self._run.entry, time.time()
        details = {"device": entry.cached, "host": 0} if entry.cached else None
        meta: JsonObject = {
            "id": entry.rid,
            "finish_reason": self._finish(),
            "prompt_tokens": entry.prompt,
            "weight_version": "default",
            "num_retractions": 0,
            "queue_time": 0.0,
            "reasoning_tokens": self._generation.reasoning,
            "completion_tokens": self._generation.completion,
            "cached_tokens": entry.cached,
            "cached_tokens_details": details,
            "dp_rank": None,
        }
        if not self._run.behaviour.usage:
            del meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]
        if self._generation.finish is not None:
            meta |= {"e2e_latency": now - self._began, "request_received_ts": self._began, "request_finished_ts": now}
        if self._body.return_logprob:
            shown = self._shown[start:]
            rows = [(logprob_of(one, self._run.behaviour), one.token, None) for one in shown]
            meta |= {"input_token_logprobs": [], "output_token_logprobs": rows}
            meta["output_token_logprobs_length"] = self._generation.completion
            if top := self._body.top_logprobs_num:
                ranked = [[(best - rank, token, None) for rank in range(top)] for best, token, _ in rows]
                meta |= {"input_top_logprobs": [], "output_top_logprobs": ranked}
        return meta

    def _finish(self) -> JsonObject | None:
        finish = self._generation.finish
        if finish is None:
            return None
        reason = self._run.behaviour.finish or finish.reason
        if reason == "abort":
            return {"type": "abort", "message": "Aborted", "status_code": None, "err_type": None}
        if reason == "length":
            return {"type": "length", "length": self._generation.completion}
        return {"type": reason, "matched": finish.matched}
