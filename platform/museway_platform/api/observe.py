"""What is kept of a request when it is over: one log line, counters. Never a body, a key or a prompt."""

from __future__ import annotations

import logging
import time

from museway_platform.api import logs
from museway_platform.api.errors import ApiError
from museway_platform.api.metrics import Metrics
from museway_platform.api.request_log import RequestLine, RequestLog, now
from museway_platform.identity.principal import Principal
from museway_platform.serving.bill import Bill
from museway_platform.serving.refusals import Denied

log = logging.getLogger("museway.request")


class Observation:
    """Facts of one request, gathered on its way."""

    __slots__ = (
        "bill",
        "error",
        "first_at",
        "limit",
        "mode",
        "principal",
        "request_id",
        "route",
        "started_at",
        "stream",
    )

    def __init__(self, request_id: str, route: str) -> None:
        self.request_id = request_id
        self.route = route
        self.started_at = time.monotonic()
        self.first_at: float | None = None
        self.principal: Principal | None = None
        self.mode = "none"
        self.stream = False
        self.bill: Bill | None = None
        self.error: ApiError | None = None
        self.limit: str | None = None
        logs.request_id.set(request_id)

    def first_token(self) -> None:
        self.first_at = time.monotonic()

    def failed(self, error: ApiError, cause: BaseException) -> None:
        """Note the error; its cause goes to the log (only the type and place: a message may carry user data)."""
        self.error = error
        if isinstance(cause, Denied):
            self.limit = cause.refused.state.metric
        if error.status >= 500:
            log.error("%s", error.code, extra={"request_id": self.request_id}, exc_info=cause)


class Observer:
    def __init__(self, metrics: Metrics, requests: RequestLog) -> None:
        self._metrics = metrics
        self._requests = requests

    def finished(self, seen: Observation, status: int) -> None:
        seconds = time.monotonic() - seen.started_at
        first = None if seen.first_at is None else seen.first_at - seen.started_at
        metrics, bill, error, principal = self._metrics, seen.bill, seen.error, seen.principal
        metrics.request(route=seen.route, status=status, mode=seen.mode, seconds=seconds, first_token_s=first)
        if bill is not None:
            metrics.tokens(
                mode=seen.mode,
                input_=bill.input,
                cached_input=bill.cached_input,
                reasoning=bill.reasoning,
                output=bill.output,
            )
        if seen.limit is not None:
            metrics.refused(seen.limit)
        self._requests.add(
            RequestLine(
                time=now(),
                level="info" if status < 500 else "error",
                request_id=seen.request_id,
                route=seen.route,
                status=status,
                mode=seen.mode,
                duration_ms=int(seconds * 1000),
                organization=None if principal is None else principal.organization,
                key=None if principal is None else principal.key,
                cost_nano_usd=None if bill is None else bill.cost,
                code=None if error is None else error.code,
            )
        )
