"""Why serving says no. Data, not sentences: `api.errors` alone turns them into a status and words."""

from __future__ import annotations

from museway_platform.limits.limiter import Refused


class Denied(Exception):
    """A limit, a cap or the credit refused; nothing was debited and nothing was sent."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.state.metric)
        self.refused = refused


class OverMaxCost(Exception):
    """Even the least that could answer costs more than the caller's `max_cost_nano_usd`."""

    def __init__(self, *, least: int, max_cost: int) -> None:
        super().__init__("over max_cost")
        self.least = least
        self.max_cost = max_cost


class Draining(Exception):
    """The process is shutting down and takes nothing new."""


class Forbidden(Exception):
    """The key, its project or its organization is denied this (`mode:<mode>`, `model:<model>`)."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
