"""Why serving says no. Data, not sentences: `api.errors` alone turns them into a status and words."""

from __future__ import annotations

from collections.abc import Sequence

from museway_platform.limits.limiter import LimitState, Refused, Subject


class Denied(Exception):
    """A limit, a cap or the credit refused; nothing was debited and nothing was sent.

    `states` are all limits of the subject at that moment, for the headers of the answer.
    """

    def __init__(self, refused: Refused, subject: Subject, states: Sequence[LimitState] = ()) -> None:
        super().__init__(refused.state.metric)
        self.refused = refused
        self.subject = subject
        self.states = states


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
