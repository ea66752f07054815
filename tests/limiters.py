"""A limiter with a customer and a time of its own, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from museway_platform.limits.limiter import Admitted, Ask, LimitState, Refused, Scope, Subject, Used
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.policy import Cap, Policy, RateLimit

SECOND = 10**9
DAY = 86_400 * SECOND
SUBJECT = Subject("org_1", "prj_1", "key_1", "instant")


def ns(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


@dataclass
class World:
    """A limiter with an organization of credit 1,000, at noon of a Wednesday, and the time that it sees."""

    ns: int = 0
    noon: int = field(default_factory=lambda: ns(2025, 1, 15, 12))
    made: int = 0

    def __post_init__(self) -> None:
        self.limiter = MemoryLimiter(lambda: self.ns, lambda: self.noon + self.ns)
        self.limiter.open_account("org_1", posted=1000, sequence=0)

    def limit(
        self, *rates: RateLimit, caps: tuple[Cap, ...] = (), scope: Scope = "key", scope_id: str = "key_1"
    ) -> None:
        self.limiter.configure(Policy(scope=scope, scope_id=scope_id, rates=rates, caps=caps))

    async def admit(
        self, *, n: int = 0, out: int = 0, amount: int = 0, subject: Subject = SUBJECT
    ) -> Admitted | Refused:
        self.made += 1
        return await self.limiter.admit(
            Ask(hold_id=f"hold_{self.made}", subject=subject, input_tokens=n, output_tokens=out, amount=amount)
        )

    async def held(self, *, n: int = 0, out: int = 0, amount: int = 0) -> str:
        answer = await self.admit(n=n, out=out, amount=amount)
        assert isinstance(answer, Admitted)
        return answer.hold_id

    async def refused(self, *, n: int = 0, out: int = 0, amount: int = 0) -> Refused:
        answer = await self.admit(n=n, out=out, amount=amount)
        assert isinstance(answer, Refused)
        return answer

    async def state(self, metric: str, scope_id: str = "key_1") -> LimitState:
        states = await self.limiter.states(SUBJECT)
        return next(state for state in states if (state.metric, state.scope_id) == (metric, scope_id))


def used(*, n: int = 0, cached: int = 0, out: int = 0, amount: int = 0) -> Used:
    return Used(input_tokens=n, cached_tokens=cached, output_tokens=out, amount=amount)
