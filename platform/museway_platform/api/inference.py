"""`POST /v1/chat/completions`: authenticate, decode, serve, encode. The hot path, and where a newcomer starts to read.

Its budget, of one core and with everything on (DESIGN §9): 220 µs for a JSON answer, 42 for a paced chunk, 12 for one of many
that came in one read. What it costs and where that goes: `tests/bench/RESULTS.md`. A wake-up of another thread costs as much
as fifty function calls: per answer there are granian's three, the worker's one and the journal's one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from museway_engine.completion import Mode
from museway_platform.api.attendance import Attendance, ClientGone
from museway_platform.api.authentication import Authentication
from museway_platform.api.billing_view import museway_of, usage_of
from museway_platform.api.connection import EVENT_STREAM, Exchange, header, read_body
from museway_platform.api.errors import encode_error, error_body, method_not_allowed, to_api_error
from museway_platform.api.headers import limit_headers
from museway_platform.api.keyed import IDEMPOTENCY_KEY, KeyedAnswers
from museway_platform.api.observe import Observation, Observer
from museway_platform.identity.ids import new_id
from museway_platform.limits.refused.recorder import RefusalRecorder
from museway_platform.serving.refusals import Denied
from museway_platform.serving.serve import Answer, Serving
from museway_platform.wire.chat.decode import ChatCall, decode_chat
from museway_platform.wire.chat.encode import ChatAnswer, ChatStream

CLIENT_CLOSED = 499


class ChatCompletions:
    """The route's handler. `names` maps every accepted model id to (served name, mode)."""

    def __init__(
        self,
        *,
        serving: Serving,
        keyed: KeyedAnswers,
        authentication: Authentication,
        observer: Observer,
        refusals: RefusalRecorder,
        names: Mapping[str, tuple[str, Mode | None]],
        body_limit: int,
    ) -> None:
        self._serving = serving
        self._keyed = keyed
        self._authentication = authentication
        self._observer = observer
        self._refusals = refusals
        self._names = names
        self._body_limit = body_limit
        self._attendance = Attendance()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(send, new_id("req"))
        seen = Observation(exchange.request_id, "chat.completions")
        try:
            await self._handle(scope, receive, exchange, seen)
        except ClientGone:
            exchange.status = CLIENT_CLOSED
        except Exception as exc:  # noqa: BLE001 (the outermost edge: everything becomes a documented error)
            await self._fail(exchange, seen, exc)
        finally:
            self._observer.finished(seen, exchange.status)

    async def _handle(self, scope: Scope, receive: Receive, exchange: Exchange, seen: Observation) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] != "POST":
            raise method_not_allowed("POST")
        principal = await self._authentication.principal(scope)
        seen.principal = principal
        with self._attendance.visit(receive) as visit:
            body = await read_body(scope, receive, self._body_limit)
            visit.has_body()
            call = decode_chat(body, request_id=exchange.request_id, names=self._names)
            seen.stream = call.completion.stream
            if header(scope, IDEMPOTENCY_KEY) is not None:
                await self._keyed.answer(scope, exchange, seen, principal, call)
                return
            async with self._serving.serve(principal, call.completion, call.max_cost_nano_usd) as served:
                seen.mode = served.prepared.resolved
                if call.completion.stream:
                    await self._stream(call, served, exchange, seen)
                else:
                    await self._whole(call, served, exchange, seen)

    async def _stream(self, call: ChatCall, served: Answer, exchange: Exchange, seen: Observation) -> None:
        """The first batch comes before our own 200: until then an error is an error, with its status."""
        stream = ChatStream(call, created=int(time.time()))
        try:
            async for batch in served:
                piece = stream.batch(batch)
                if not exchange.started:
                    seen.first_token()
                    await exchange.start(200, [*EVENT_STREAM, *limit_headers(served.admitted)])
                    piece = stream.start() + piece
                if piece:
                    await exchange.write(piece)
        except Exception as exc:
            if not exchange.started:
                raise
            served.broke_off(exc)
            error = to_api_error(exc)
            seen.failed(error, exc)
            await exchange.finish(stream.error(error_body(error, exchange.request_id)))
            return
        bill = await served.bill()
        seen.bill = bill
        await exchange.finish(stream.end(usage_of(bill), museway_of(bill)))

    async def _whole(self, call: ChatCall, served: Answer, exchange: Exchange, seen: Observation) -> None:
        whole = ChatAnswer(call, created=int(time.time()))
        async for batch in served:
            whole.add(batch)
        bill = await served.bill()
        seen.bill = bill
        cost = (b"x-museway-cost-nano-usd", str(bill.cost).encode())
        body = whole.body(usage_of(bill), museway_of(bill))
        await exchange.json(200, body, [cost, *limit_headers(served.admitted)])

    async def _fail(self, exchange: Exchange, seen: Observation, exc: Exception) -> None:
        error = to_api_error(exc)
        seen.failed(error, exc)
        if isinstance(exc, Denied):
            await self._refusals.note(exchange.request_id, exc.subject, error.code, exc.refused)
        if not exchange.started:
            await exchange.error(error, encode_error(error, exchange.request_id))
