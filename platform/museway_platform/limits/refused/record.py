"""What is kept of a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from museway_platform.limits.limiter import Holder, Metric, Scope


class RefusedRequest(Struct, frozen=True, kw_only=True):
    """One refusal. `asked`, `limit`, `used`, `held` are in the metric's unit (nano-USD of `spend` and `credit`).

    `times`: how many refusals of this key by this limit within a second it stands for. `holders`: who held most then.
    """

    request_id: str
    organization: str
    project: str
    key: str
    mode: str
    code: str
    scope: Scope
    scope_id: str
    metric: Metric
    limit_mode: str | None
    limit: int
    used: int
    held: int
    asked: int
    retry_after_s: float | None
    holders: Sequence[Holder]
    times: int
    created: datetime
