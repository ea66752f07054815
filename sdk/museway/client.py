"""The client that blocks. What it does with a request is in `_exchange`, with a stream in `streams`."""

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
from museway.streams import Stream

if TYPE_CHECKING:
    import httpx2


class Museway:
    """A client of one server with one key. Safe to share between threads; close it, or use it as a context manager.

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
        http_client: httpx2.Client | None = None,
    ) -> None:
        from museway._sync import Transport  # imports httpx2: 60 ms that `museway --help` need not pay

        policy = retry or RetryPolicy(max_retries=max_retries)
        self._settings = make_settings(
            api_key,
            base_url=base_url,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            retry=policy,
            proxy=proxy,
        )
        self._transport = Transport(self._settings, http_client)
        self._model = model
        self._receipt_keys: types.ReceiptKeys | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Museway(base_url={self._settings.base_url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Reply:
        """The whole answer to a text or a conversation. Raises StatusError, ConnectionError, TimeoutError."""
        call = _operations.create_chat_completion(chat_request(prompt, options, model=self._model))
        answered = self._transport.run(exchange(call, self._attempt(options)))
        return reply_of(read(call, answered), answered.head.headers)

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """The answer as it is made: enter it with `with` and iterate its events."""
        call = _operations.create_chat_completion(chat_request(prompt, options, model=self._model, stream=True))
        return Stream(self._transport, call, self._attempt(options, stream=True))

    def quote(self, prompt: Prompt, **options: Unpack[Options]) -> dict[str, types.CostRange]:
        """What it would cost, by mode: least, likely, worst, in nano-USD. Nothing is run."""
        call = _operations.create_quote(chat_request(prompt, options, model=self._model))
        return self._transport.run(ask(call, self._attempt(options)))

    def tokenize(self, prompt: Prompt, **options: Unpack[Options]) -> types.Tokenized:
        """The tokens of the prompt as it would be billed."""
        call = _operations.tokenize(chat_request(prompt, options, model=self._model))
        return self._transport.run(ask(call, self._attempt(options)))

    def models(self) -> list[types.Model]:
        return self.call(_operations.list_models()).data

    def model(self, name: str) -> types.Model:
        """Raises NotFoundError."""
        return self.call(_operations.get_model(name))

    def balance(self) -> types.BalanceView:
        return self.call(_operations.get_balance())

    def limits(self) -> list[types.LimitView]:
        return self.call(_operations.list_limits()).data

    def usage(self, **query: Unpack[UsageQuery]) -> types.UsagePage:
        """Sums of usage by bucket of time. Pass `next_page` as `page` for what follows."""
        return self.call(_operations.get_usage(**query))

    def costs(self, **query: Unpack[CostQuery]) -> types.CostPage:
        """Sums of money by bucket of time. Pass `next_page` as `page` for what follows."""
        return self.call(_operations.get_costs(**query))

    def receipt(self, request_id: str, *, wait_s: float = 10) -> Receipt:
        """The signed receipt of `reply.request_id`; `.verify()` proves it.

        Raises ReceiptPendingError where its records are still on their way after `wait_s`, NotFoundError.
        """
        flow = fetch_receipt(request_id, self._attempt(), self._receipt_keys, wait_s=wait_s)
        receipt = self._transport.run(flow)
        self._receipt_keys = receipt.keys
        return receipt

    def call(self, call: Call[Answer], **options: Unpack[CallOptions]) -> Answer:
        """Send any operation of the API. Raises StatusError, ConnectionError, TimeoutError, InvalidAnswerError."""
        return self._transport.run(ask(call, self._attempt(options)))

    def _attempt(self, options: CallOptions | Options | None = None, *, stream: bool = False) -> Attempt:
        return make_attempt(self._settings, options or {}, stream=stream)
