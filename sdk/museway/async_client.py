"""The client for an event loop: `client`, with `await`."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from museway import _operations, types
from museway._call import Answer, Call
from museway._exchange import Attempt, ask, exchange, read
from museway._settings import make_attempt, make_settings
from museway.options import DEFAULT_MODEL, CallOptions, Options, Prompt, chat_request
from museway.queries import CostQuery, UsageQuery
from museway.receipts import Receipt, fetch_receipt
from museway.reply import Reply, reply_of
from museway.retry import RetryPolicy
from museway.streams import AsyncStream

if TYPE_CHECKING:
    import httpx2


class AsyncMuseway:
    """A client of one server with one key, for one event loop. Close it, or use it as an async context manager.

    `api_key` and `base_url` default to `MUSEWAY_API_KEY` and `MUSEWAY_BASE_URL`; `model` is asked where a call names none.
    `timeout_s` is how long the server may be silent. Proxies come from the environment (`HTTPS_PROXY`, …) or `proxy`. An
    own `http_client` brings its own certificates and proxies; it is not closed here.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        model: str = DEFAULT_MODEL,
        timeout_s: float = 600,
        connect_timeout_s: float = 5,
        max_retries: int = 2,
        retry: RetryPolicy | None = None,
        proxy: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        from museway._async import AsyncTransport  # imports httpx2: 60 ms that `museway --help` need not pay

        policy = retry or RetryPolicy(max_retries=max_retries)
        self._settings = make_settings(
            api_key,
            base_url=base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            retry=policy,
            proxy=proxy,
        )
        self._transport = AsyncTransport(self._settings, http_client)
        self._model = model
        self._receipt_keys: types.ReceiptKeys | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncMuseway(base_url={self._settings.base_url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Reply:
        """The whole answer to a text or a conversation. Raises StatusError, ConnectionError, TimeoutError."""
        call = _operations.create_chat_completion(chat_request(prompt, options, model=self._model))
        answered = await self._transport.run(exchange(call, self._attempt(options)))
        return reply_of(read(call, answered), answered.head.headers)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """The answer as it is made: enter it with `async with` and iterate its events."""
        call = _operations.create_chat_completion(chat_request(prompt, options, model=self._model, stream=True))
        return AsyncStream(self._transport, call, self._attempt(options, stream=True))

    async def quote(self, prompt: Prompt, **options: Unpack[Options]) -> dict[str, types.CostRange]:
        """What it would cost, by mode: least, likely, worst, in nano-USD. Nothing is run."""
        call = _operations.create_quote(chat_request(prompt, options, model=self._model))
        return await self._transport.run(ask(call, self._attempt(options)))

    async def tokenize(self, prompt: Prompt, **options: Unpack[Options]) -> types.Tokenized:
        """The tokens of the prompt as it would be billed."""
        call = _operations.tokenize(chat_request(prompt, options, model=self._model))
        return await self._transport.run(ask(call, self._attempt(options)))

    async def models(self) -> list[types.Model]:
        return (await self.call(_operations.list_models())).data

    async def model(self, name: str) -> types.Model:
        """Raises NotFoundError."""
        return await self.call(_operations.get_model(name))

    async def balance(self) -> types.BalanceView:
        return await self.call(_operations.get_balance())

    async def limits(self) -> list[types.LimitView]:
        return (await self.call(_operations.list_limits())).data

    async def usage(self, **query: Unpack[UsageQuery]) -> types.UsagePage:
        """Sums of usage by bucket of time. Pass `next_page` as `page` for what follows."""
        return await self.call(_operations.get_usage(**query))

    async def costs(self, **query: Unpack[CostQuery]) -> types.CostPage:
        """Sums of money by bucket of time. Pass `next_page` as `page` for what follows."""
        return await self.call(_operations.get_costs(**query))

    async def receipt(self, request_id: str, *, wait_s: float = 10) -> Receipt:
        """The signed receipt of `reply.request_id`; `.verify()` proves it.

        Raises ReceiptPendingError where its records are still on their way after `wait_s`, NotFoundError.
        """
        flow = fetch_receipt(request_id, self._attempt(), self._receipt_keys, wait_s=wait_s)
        receipt = await self._transport.run(flow)
        self._receipt_keys = receipt.keys
        return receipt

    async def call(self, call: Call[Answer], **options: Unpack[CallOptions]) -> Answer:
        """Send any operation of the API. Raises StatusError, ConnectionError, TimeoutError, InvalidAnswerError."""
        return await self._transport.run(ask(call, self._attempt(options)))

    def _attempt(self, options: CallOptions | Options | None = None, *, stream: bool = False) -> Attempt:
        return make_attempt(self._settings, options or {}, stream=stream)
