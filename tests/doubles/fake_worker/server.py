"""Routes: the engine's own, the probes, and the controls of the double (`/_book`, `/_script`, `/_reset`, …)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from doubles.fake_worker import info
from doubles.fake_worker.admission import is_thinking, prompt_ids
from doubles.fake_worker.chat import chat
from doubles.fake_worker.engine import Engine
from doubles.fake_worker.generate import generate
from doubles.fake_worker.http import Connection, Request
from doubles.fake_worker.options import Options
from doubles.fake_worker.refusal import Refusal
from doubles.fake_worker.script import Script, ServerState
from doubles.fake_worker.shapes import AbortBody, DetokenizeBody, TokenizeBody
from doubles.fake_worker.stream import encoder
from doubles.fake_worker.vocabulary import SIZE, decode, encode

_HIDDEN_BEHIND_A_ROUTER = ("/abort_request", "/v1/loads", "/metrics")
_Route = Callable[[Request, Connection], Awaitable[None]]


class Server:
    """One worker's routes over one engine."""

    def __init__(self, options: Options) -> None:
        self.engine = Engine(options)
        self.options = options
        self._encode = encoder(spaces=options.spaces)
        self._ready_at = time.monotonic() + options.loading_ms / 1000
        self._routes: dict[tuple[str, str], _Route] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/generate"): self._generate,
            ("POST", "/abort_request"): self._abort,
            ("POST", "/v1/tokenize"): self._tokenize,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/v1/detokenize"): self._detokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("GET", "/health"): self._health,
            ("GET", "/health_generate"): self._health,
            ("GET", "/v1/models"): self._models,
            ("GET", "/model_info"): self._model_info,
            ("GET", "/get_model_info"): self._model_info,
            ("GET", "/server_info"): self._server_info,
            ("GET", "/get_server_info"): self._server_info,
            ("GET", "/v1/loads"): self._loads,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/_book"): self._book,
            ("GET", "/_requests"): self._requests,
            ("GET", "/_wait"): self._wait,
            ("POST", "/_script"): self._script,
            ("POST", "/_reset"): self._reset,
            ("POST", "/flush_cache"): self._flush,
        }
        if options.router:
            for path in _HIDDEN_BEHIND_A_ROUTER:
                self._routes = {key: route for key, route in self._routes.items() if key[1] != path}
        self._paths = {path for _, path in self._routes}

    async def __call__(self, request: Request, connection: Connection) -> None:
        route = self._routes.get((request.method, request.path))
        if route is None:
            known = request.path in self._paths
            detail = "Method Not Allowed" if known else "Not Found"
            self._json(connection, {"detail": detail}, 405 if known else 404)
            return
        try:
            await route(request, connection)
        except Refusal as refused:
            self._refuse(request, connection, refused)
        except msgspec.MsgspecError as wrong:
            self._refuse(request, connection, Refusal(400, _validation(wrong, request)))

    def _refuse(self, request: Request, connection: Connection, refused: Refusal) -> None:
        body = refused.generate_body() if request.path == "/generate" else refused.chat_body()
        self._json(connection, body, refused.status)

    def _json(self, connection: Connection, value: Any, status: int = 200) -> None:
        connection.answer(status, self._encode(value))

    # -- the engine's own
    async def _chat(self, request: Request, connection: Connection) -> None:
        self._remember(request)
        await chat(self.engine, self._encode, request, connection)

    async def _generate(self, request: Request, connection: Connection) -> None:
        self._remember(request)
        await generate(self.engine, self._encode, request, connection)

    def _remember(self, request: Request) -> None:
        body = msgspec.json.decode(request.body)
        self.engine.book.requests.append({"path": request.path, "headers": request.headers, "body": body})

    async def _abort(self, request: Request, connection: Connection) -> None:
        body = msgspec.json.decode(request.body, type=AbortBody)
        self.engine.abort(body.rid, everything=body.abort_all)
        connection.answer(200, b"")

    async def _tokenize(self, request: Request, connection: Connection) -> None:
        body = msgspec.json.decode(request.body, type=TokenizeBody)
        if (body.messages is None) == (body.prompt is None):
            raise Refusal(400, "1 validation error: Exactly one of 'prompt' or 'messages' must be provided.")
        if body.messages is not None:
            thinking = is_thinking(body.chat_template_kwargs, body.reasoning_effort)
            tokens: list[Any] = list(
                prompt_ids(
                    body.messages,
                    body.tools,
                    body.tool_choice,
                    thinking=thinking,
                    opens_answer=body.add_generation_prompt,
                    continues=body.continue_final_message,
                )
            )
        elif isinstance(body.prompt, list):
            tokens = [encode(prompt) for prompt in body.prompt]
        else:
            tokens = list(encode(body.prompt or ""))
        count = [len(one) for one in tokens] if isinstance(body.prompt, list) else len(tokens)
        self._json(connection, {"tokens": tokens, "count": count, "max_model_len": self.options.context})

    async def _detokenize(self, request: Request, connection: Connection) -> None:
        body = msgspec.json.decode(request.body, type=DetokenizeBody)
        batch = [one for one in body.tokens if isinstance(one, list)]
        flat = [one for one in body.tokens if isinstance(one, int)]
        text = [self._text(one, body) for one in batch] if batch else self._text(flat, body)
        self._json(connection, {"text": text})

    def _text(self, tokens: list[int], body: DetokenizeBody) -> str:
        return decode([token for token in tokens if 0 <= token < SIZE], skip_special=body.skip_special_tokens)

    # -- probes
    async def _is_well(self, connection: Connection) -> bool:
        status = self.engine.state.health
        if status == 0:
            await asyncio.Event().wait()
        if time.monotonic() < self._ready_at:
            status = 503
        if status != 200:
            connection.answer(status, b"")
        return status == 200

    async def _health(self, request: Request, connection: Connection) -> None:
        if await self._is_well(connection):
            connection.answer(200, b"")

    async def _models(self, request: Request, connection: Connection) -> None:
        if await self._is_well(connection):
            self._json(connection, info.models(self.options))

    async def _model_info(self, request: Request, connection: Connection) -> None:
        self._json(connection, {**info.model_info(self.options), **self.engine.state.model_info})

    async def _server_info(self, request: Request, connection: Connection) -> None:
        self._json(connection, {**info.server_info(self.options), **self.engine.state.server_info})

    async def _loads(self, request: Request, connection: Connection) -> None:
        self._json(connection, info.loads(self.engine))

    async def _metrics(self, request: Request, connection: Connection) -> None:
        connection.answer(200, info.metrics(self.engine).encode(), "text/plain; version=0.0.4; charset=utf-8")

    # -- controls of the double
    async def _book(self, request: Request, connection: Connection) -> None:
        book = self.engine.book
        prefix = dict(parse_qsl(request.query)).get("rid", "")
        answer = {"entries": book.of(prefix), "refused": book.refused, "live": sorted(self.engine.live)}
        connection.answer(200, msgspec.json.encode({**answer, "counters": self.engine.counters}))

    async def _wait(self, request: Request, connection: Connection) -> None:
        """Answer once a call whose rid begins so has made `tokens` tokens or ended; without a rid, once none is live."""
        asked = dict(parse_qsl(request.query))
        engine, prefix, tokens = self.engine, asked.get("rid"), int(asked.get("tokens", "0"))

        def holds() -> bool:
            if prefix is None:
                return not engine.live
            return any(e.ended is not None or e.completion >= tokens for e in engine.book.of(prefix))

        try:
            async with asyncio.timeout(float(asked.get("deadline_s", "10"))):
                await engine.until(holds)
        except TimeoutError:
            self._json(connection, {"live": sorted(engine.live)}, 408)
        else:
            self._json(connection, {})

    async def _requests(self, request: Request, connection: Connection) -> None:
        self._json(connection, {"requests": list(self.engine.book.requests)})

    async def _script(self, request: Request, connection: Connection) -> None:
        script = msgspec.json.decode(request.body, type=Script)
        if script.server is not None:
            self.engine.state = script.server
        self._json(connection, {"rules": [self.engine.rules.add(rule) for rule in script.rules]})

    async def _reset(self, request: Request, connection: Connection) -> None:
        """Forget book, rules, cache and server state; running requests run on, counters count on."""
        self.engine.book.clear()
        self.engine.rules.clear()
        self.engine.cache.clear()
        self.engine.state = ServerState()
        self._json(connection, {})

    async def _flush(self, request: Request, connection: Connection) -> None:
        self.engine.cache.clear()
        connection.answer(200, b"Cache flushed.\n", "text/plain; charset=utf-8")


def _validation(wrong: msgspec.MsgspecError, request: Request) -> str:
    # The path and the line are there on purpose: a gateway must never hand a worker's message on.
    return (
        f"1 validation error:\n  {{'type': 'value_error', 'msg': '{wrong}'}}\n\n"
        f'  File "/opt/engine/sglang/srt/entrypoints/http_server.py", line 1870, in {request.path}'
    )
