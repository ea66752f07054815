"""A worker's own tokenizer, asked over the wire. Ids that we send are only ever ids that it gave (DESIGN §11)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from museway_engine.completion import Completion
from museway_engine.errors import EngineError, WorkerLost
from museway_engine.worker.client import Client, Reply
from museway_engine.worker.connection import ConnectionFailed
from museway_engine.worker.encode import Kwargs, encode_tokenize, encode_tokenize_text
from museway_engine.worker.errors import read_failure, translate
from museway_engine.worker.shapes import Tokens

_tokens: Final = msgspec.json.Decoder(Tokens)


class _Detokenize(Struct):
    model: str
    tokens: list[int]
    skip_special_tokens: bool


class _Text(Struct):
    text: str


_text: Final = msgspec.json.Decoder(_Text)


class Tokenizer:
    """Asks one worker. All methods raise WorkerLost, or InvalidForModel where the worker refuses the messages."""

    def __init__(self, client: Client, model: str, *, context: int) -> None:
        self._client = client
        self._model = model
        self._context = context

    async def conversation(self, completion: Completion, kwargs: Kwargs) -> list[int]:
        """The prompt that a chat call would render, generation prompt included."""
        return _decode_tokens(await self._ask("/v1/tokenize", encode_tokenize(completion, kwargs)), self._client)

    async def text(self, text: str) -> list[int]:
        """The ids of a text alone; [] of ""."""
        if not text:
            return []
        return _decode_tokens(await self._ask("/v1/tokenize", encode_tokenize_text(self._model, text)), self._client)

    async def detokenize(self, ids: list[int], *, skip_special: bool) -> str:
        body = msgspec.json.encode(_Detokenize(self._model, ids, skip_special))
        reply = await self._ask("/v1/detokenize", body)
        try:
            return _text.decode(reply.body).text
        except msgspec.MsgspecError as error:
            raise _malformed(self._client) from error

    async def _ask(self, path: str, body: bytes) -> Reply:
        url = self._client.url
        try:
            reply = await self._client.request("POST", path, body)
        except ConnectionFailed as failure:
            raise WorkerLost(url, delivered=False, cause=failure.cause) from failure
        if reply.status != 200:
            refused = read_failure(reply.status, reply.body)
            raise translate(refused, worker=url, rid=path, context=self._context, delivered=False)
        return reply


def _decode_tokens(reply: Reply, client: Client) -> list[int]:
    try:
        return _tokens.decode(reply.body).tokens
    except msgspec.MsgspecError as error:
        raise _malformed(client) from error


def _malformed(client: Client) -> EngineError:
    return WorkerLost(client.url, delivered=False, cause="malformed answer")
