"""Going on with a stream that was cut: whether, when, after which event. Pure, as `_exchange`; both kinds of stream use it."""

from __future__ import annotations

import random
from typing import Any, Final

from msgspec import structs

from museway import _operations, errors
from museway._call import Call
from museway._chunks import ChunkReader
from museway._exchange import Answered, Attempt, Flow, Wait, ask, exchange
from museway.retry import RetryPolicy

CANCEL_S: Final = 2.0
"""How long leaving a stream may take where the server does not answer."""


class Resumption:
    """What is known of one stream's cuts."""

    def __init__(self, call: Call[Any], attempt: Attempt) -> None:
        self._call = call
        self._attempt = attempt
        self._after: str | None = None
        self._tried = 0

    def begin(self) -> Flow[Answered]:
        return exchange(self._call, self._attempt)

    def again(self, reader: ChunkReader, error: errors.ConnectionError) -> Flow[Answered] | None:
        """To go on after the last whole event, or from the start where none has come; None where the server gives no ids,
        or tries without a new event are over.

        The same Idempotency-Key goes with it: the server adds nothing to the bill.
        """
        after = reader.last_event_id
        if after is None and reader.has_begun:
            return None
        if after != self._after:
            self._after, self._tried = after, 0
        self._tried += 1
        seconds = self._attempt.policy.delay_s(self._tried, error, random.random)
        if seconds is None:
            return None
        reader.reconnected()
        return self._wait_and_go_on(seconds, after)

    def _wait_and_go_on(self, seconds: float, after: str | None) -> Flow[Answered]:
        yield Wait(seconds)
        return (yield from exchange(self._call, structs.replace(self._attempt, last_event_id=after)))

    def cancel(self, reader: ChunkReader | None) -> Flow[object] | None:
        """To tell the server that nobody will come back; None where there is nothing to tell, or nothing that it knows."""
        if reader is None or reader.done or reader.last_event_id is None:
            return None
        once = Attempt(policy=RetryPolicy(max_retries=0), headers=self._attempt.headers, timeout_s=CANCEL_S)
        return ask(_operations.cancel_request(reader.last_event_id.partition(":")[0]), once)
