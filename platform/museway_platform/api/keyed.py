"""Requests with an Idempotency-Key: claimed, attached to, replayed, resumed (invariant I7, decision 0011).

The answer is made by a task of the registry, never by a connection; each connection only reads the run's log. Without a key
nothing here is touched (`api/inference.py`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from litestar.types import Scope
from msgspec import Struct, structs

from museway_platform.api.billing_view import museway_of, usage_of
from museway_platform.api.connection import EVENT_STREAM, Exchange, Headers, header
from museway_platform.api.errors import ApiError, encode_error, error_body, stream_restarted, to_api_error
from museway_platform.api.headers import limit_headers
from museway_platform.api.observe import Observation
from museway_platform.idempotency.kept import Answer as KeptAnswer
from museway_platform.idempotency.kept import OtherBody
from museway_platform.idempotency.names import KEY_LENGTH_MAX, InvalidKey, Name, Namer
from museway_platform.idempotency.registry import Registry
from museway_platform.idempotency.run import Reader, Run
from museway_platform.idempotency.share import AnsweredElsewhere
from museway_platform.identity.principal import Principal
from museway_platform.limits.limiter import Admitted
from museway_platform.serving.bill import Bill
from museway_platform.serving.serve import Answer, Repeatable, Serving
from museway_platform.wire import sse
from museway_platform.wire.chat.decode import ChatCall
from museway_platform.wire.chat.encode import ChatAnswer, ChatStream

IDEMPOTENCY_KEY: Final = b"idempotency-key"
LAST_EVENT_ID: Final = b"last-event-id"
REPLAYED: Final[Headers] = [(b"idempotent-replayed", b"true")]
COST: Final = b"x-museway-cost-nano-usd"
_FREE_OF_CHARGE: Final = b"0"


class ChatRun(Run):
    """A run of one chat request, and what is to be told of it once: whoever takes `bill` or `failure` leaves None."""

    def __init__(self, name: Name, principal: Principal, call: ChatCall) -> None:
        super().__init__(name, call.completion.request_id, principal.organization)
        self.principal = principal
        self.call = call
        self.mode = "none"
        self.admitted: Admitted | None = None
        self.bill: Bill | None = None
        self.failure: Exception | None = None


class EventId(Struct, frozen=True):
    """`<request_id>:<number>`: the number of log entries up to and with this one."""

    request_id: str
    number: int

    @classmethod
    def of(cls, text: bytes) -> EventId:
        """Raises ApiError 400."""
        request_id, colon, number = text.decode("latin-1").partition(":")
        if not colon or not request_id.startswith("req_") or not (number.isascii() and number.isdigit()):
            message = "'Last-Event-ID' is not the id of an event of ours: 'req_…:<number>'."
            raise ApiError("invalid_value", message, param="Last-Event-ID")
        return cls(request_id, int(number[:18]))


class KeyedAnswers:
    """Answers requests with a key on one route."""

    def __init__(self, *, serving: Serving, registry: Registry[ChatRun], namer: Namer, route: str) -> None:
        self._serving = serving
        self._registry = registry
        self._namer = namer
        self._route = route

    async def answer(
        self,
        scope: Scope,
        exchange: Exchange,
        seen: Observation,
        principal: Principal,
        call: ChatCall,
    ) -> None:
        """Raises ApiError 400 (the key, Last-Event-ID) and 409, OtherBody, AnswerNotKept, RunningElsewhere, and what the run
        raises before its answer begins."""
        names = self._names(scope, principal, call)
        last = header(scope, LAST_EVENT_ID) if call.completion.stream else None
        resume = None if last is None else EventId.of(last)
        try:
            kept = await self._given(names, exchange, seen, principal, call, resume)
        except AnsweredElsewhere as found:
            kept = found.answer
        if kept is not None:
            await self._replay(kept, exchange, seen, resume, call)

    async def _given(
        self,
        names: list[Name],
        exchange: Exchange,
        seen: Observation,
        principal: Principal,
        call: ChatCall,
        resume: EventId | None,
    ) -> KeptAnswer | None:
        """Attach, or begin; or what was answered before, which is still to be sent."""
        while (found := self._registry.find(names)) is not None:
            if isinstance(found, ChatRun):
                await self._attach(found, names[0], exchange, seen, resume)
                return None
            if (kept := await self._registry.read(found)) is not None:
                return kept
        if resume is not None:
            if (kept := await self._registry.look_elsewhere(names[0])) is not None:
                return kept
            raise stream_restarted()
        run = ChatRun(names[0], principal, call)
        self._registry.start(run, self._drive)
        with run.attach() as reader:
            await self._send(run, reader, exchange, seen, is_first=True)
        return None

    def _names(self, scope: Scope, principal: Principal, call: ChatCall) -> list[Name]:
        anonymous = structs.replace(call, completion=structs.replace(call.completion, request_id=""))
        key = header(scope, IDEMPOTENCY_KEY) or b""
        try:
            return self._namer.names(project=principal.project, route=self._route, key=key, body=anonymous)
        except InvalidKey:
            message = f"'Idempotency-Key' must be 1 to {KEY_LENGTH_MAX} visible ASCII characters."
            raise ApiError("invalid_value", message, param="Idempotency-Key") from None

    # -- the connection's side ----------------------------------------------------------------------------------------

    async def _attach(
        self,
        run: ChatRun,
        name: Name,
        exchange: Exchange,
        seen: Observation,
        resume: EventId | None,
    ) -> None:
        """Read along with whoever else does: from the first event, or after the last one that this client had."""
        if run.name.fingerprint != name.fingerprint:
            raise OtherBody
        after = _entries_before(resume, run.request_id, len(run.log))
        exchange.request_id = seen.request_id = run.request_id
        with run.attach(after) as reader:
            await self._send(run, reader, exchange, seen, is_first=False)

    async def _send(
        self, run: ChatRun, reader: Reader, exchange: Exchange, seen: Observation, *, is_first: bool
    ) -> None:
        is_stream = run.call.completion.stream
        try:
            while entries := await reader.read():
                if not is_stream:
                    _tell(run, seen)
                    cost = str(seen.bill.cost).encode() if is_first and seen.bill is not None else _FREE_OF_CHARGE
                    headers = [(COST, cost), *_about(run, is_first=is_first)]
                    await exchange.json(200, entries[0], headers)
                    return
                if not exchange.started:
                    seen.first_token()
                    await exchange.start(200, [*EVENT_STREAM, *_about(run, is_first=is_first)])
                await exchange.write(entries[0] if len(entries) == 1 else b"".join(entries))
        except Exception as exc:
            if not exchange.started:
                raise
            run.failure = exc
            _tell(run, seen)
            await exchange.finish(sse.data(encode_error(to_api_error(exc), run.request_id)) + sse.DONE)
            return
        if not exchange.started:  # it had everything before it came
            await exchange.start(200, [*EVENT_STREAM, *_about(run, is_first=is_first)])
        _tell(run, seen)
        await exchange.finish()

    async def _replay(
        self, kept: KeptAnswer, exchange: Exchange, seen: Observation, resume: EventId | None, call: ChatCall
    ) -> None:
        """What was answered before, byte for byte."""
        after = _entries_before(resume, kept.request_id, len(kept.entries))
        exchange.request_id = seen.request_id = kept.request_id
        if call.completion.stream:
            await exchange.start(200, [*EVENT_STREAM, *REPLAYED])
            await exchange.finish(b"".join(kept.entries[after:]))
        else:
            await exchange.json(200, kept.entries[0], [(COST, _FREE_OF_CHARGE), *REPLAYED])

    # -- the run's side -------------------------------------------------------------------------------------------------

    async def _drive(self, run: ChatRun) -> None:
        """Make the answer: what `api/inference.py` does without a key, into the log and not onto a connection."""
        call, repeatable = run.call, Repeatable(run.name.hash, run.gate)
        async with self._serving.serve(run.principal, call.completion, call.max_cost_nano_usd, repeatable) as served:
            run.mode = served.prepared.resolved.value
            run.admitted = served.admitted
            try:
                if call.completion.stream:
                    await self._stream(run, served)
                else:
                    await self._whole(run, served)
            except asyncio.CancelledError:
                served.abandon()
                raise
        run.end()

    async def _stream(self, run: ChatRun, served: Answer) -> None:
        stream = ChatStream(run.call, created=int(time.time()))
        try:
            async for batch in served:
                piece = stream.batch(batch)
                if not run.log:
                    piece = stream.start() + piece
                if piece:
                    run.append(*_numbered(run, piece))
        except Exception as exc:
            if not run.log:
                raise
            served.broke_off(exc)
            run.failure = exc
            last = _numbered(run, stream.error(error_body(to_api_error(exc), run.request_id)))
            if served.is_given_back:
                run.append(*last)  # not kept: a retry may fare better
            else:
                await self._conclude(run, served, last)
            return
        run.is_ending = True
        bill = await served.draft()
        await self._conclude(run, served, _numbered(run, stream.end(usage_of(bill), museway_of(bill))), bill)

    async def _whole(self, run: ChatRun, served: Answer) -> None:
        whole = ChatAnswer(run.call, created=int(time.time()))
        async for batch in served:
            whole.add(batch)
        run.is_ending = True
        bill = await served.draft()
        await self._conclude(run, served, [whole.body(usage_of(bill), museway_of(bill))], bill)

    async def _conclude(self, run: ChatRun, served: Answer, last: list[bytes], bill: Bill | None = None) -> None:
        """The answer is durable before its bill is, and its end is given out after."""
        run.is_ending = True
        await self._registry.keep(run, run.log + last)
        try:
            await served.settle()
        except Exception:
            await self._registry.unkeep(run)
            raise
        run.bill = bill
        run.append(*last)


def _entries_before(resume: EventId | None, request_id: str, length: int) -> int:
    """How many entries the client has. Raises ApiError 409 where they were another run's, 400 where it can't have them."""
    if resume is None:
        return 0
    if resume.request_id != request_id:
        raise stream_restarted()
    if resume.number > length:
        raise ApiError("invalid_value", "'Last-Event-ID' is an event that was not sent.", param="Last-Event-ID")
    return resume.number


def _about(run: ChatRun, *, is_first: bool) -> Headers:
    """Limits are told to the request that was admitted; what is read again passed none."""
    if not is_first:
        return REPLAYED
    return [] if run.admitted is None else limit_headers(run.admitted)


def _tell(run: ChatRun, seen: Observation) -> None:
    """What the log line and the counters say, said once a run."""
    seen.mode = run.mode
    seen.bill, run.bill = run.bill, None
    failure, run.failure = run.failure, None
    if failure is not None:
        seen.failed(to_api_error(failure), failure)


def _numbered(run: ChatRun, piece: bytes) -> list[bytes]:
    """The events of a piece, each with its id; comments count and have none."""
    request_id = run.request_id.encode()
    return [
        b"%b\n\n" % event if event.startswith(b":") else b"id: %b:%d\n%b\n\n" % (request_id, number, event)
        for number, event in enumerate(piece.split(b"\n\n")[:-1], len(run.log) + 1)
    ]
