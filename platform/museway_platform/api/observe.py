"""What is kept of a request when it is over: one log line, counters. Never a body, a key or a prompt."""

from __future__ import annotations

import logging
import time

from museway_platform.api.errors import ApiError
from museway_platform.api.metrics import Metrics
from museway_platform.identity.principal import Principal
from museway_platform.serving.bill import Bill

log = logging.getLogger("museway.request")


class Observation:
    """Facts of one request, gathered on its way."""

    __slots__ = ("bill", "error", "first_at", "mode", "principal", "request_id", "route", "started_at", "stream")

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

    def first_token(self) -> None:
        self.first_at = time.monotonic()

    def failed(self, error: ApiError, cause: BaseException) -> None:
        """Note the error; its cause goes to the log (only the type and place: a message may carry user data)."""
        self.error = error
        if error.status >= 500:
            log.error("%s", error.code, extra={"request_id": self.request_id}, exc_info=cause)


class Observer:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def finished(self, seen: Observation, status: int) -> None:
        now = time.monotonic()
        self._metrics.request(
            route=seen.route,
            status=status,
            mode=seen.mode,
            seconds=now - seen.started_at,
            first_token_s=None if seen.first_at is None else seen.first_at - seen.started_at,
        )
        if seen.bill is not None:
            bill = seen.bill
            self._metrics.tokens(
                mode=seen.mode,
                input_=bill.input,
                cached_input=bill.cached_input,
                reasoning=bill.reasoning,
                output=bill.output,
            )
        if seen.error is not None and seen.error.status in (402, 429):
            self._metrics.refused(seen.error.code)
        if log.isEnabledFor(logging.INFO):
            log.info("request", extra=_fields(seen, status, now))


def _fields(seen: Observation, status: int, now: float) -> dict[str, object]:
    fields: dict[str, object] = {
        "request_id": seen.request_id,
        "route": seen.route,
        "status": status,
        "mode": seen.mode,
        "duration_ms": int((now - seen.started_at) * 1000),
    }
    if seen.principal is not None:
        fields["organization"] = seen.principal.organization
        fields["key"] = seen.principal.key
    if seen.bill is not None:
        fields["cost_nano_usd"] = seen.bill.cost
    if seen.error is not None:
        fields["code"] = seen.error.code
    return fields
