"""Both limiters against a model of ten lines, under any order of commands, and against what their buckets promise."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from fractions import Fraction
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from limiters import shared_worlds
from museway_platform.limits.limiter import Admitted, Ask, Refused, Subject, Used
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.policy import Cap, Policy, RateLimit
from museway_platform.limits.shared.limiter import SharedLimiter
from redis_server import ValkeyServer

T = TypeVar("T")

SECOND = 10**9
DAY = 86_400 * SECOND
START = 20_000 * DAY + DAY // 2
ORGANIZATION, PROJECTS = "org_1", {"key_1": "prj_1", "key_2": "prj_1", "key_3": "prj_2"}
CREDIT, ALLOWANCE = 1000, 50
INPUTS = RateLimit(metric="input_tokens", capacity=70, refill=7, window_s=3)
OUTPUTS = RateLimit(metric="output_tokens", capacity=50, refill=11, window_s=7)
REQUESTS = RateLimit(metric="requests", capacity=6, refill=1, window_s=2)
THINKING = RateLimit(metric="requests", capacity=2, refill=1, window_s=5, mode="thinking")
GATE = RateLimit(metric="concurrent_requests", capacity=4)
POLICIES = (
    Policy(
        scope="organization",
        scope_id=ORGANIZATION,
        rates=(INPUTS, THINKING),
        caps=(Cap(period="day", amount_nano_usd=300),),
    ),
    Policy(scope="project", scope_id="prj_1", rates=(OUTPUTS, GATE), caps=(Cap(period="total", amount_nano_usd=500),)),
    Policy(scope="key", scope_id="key_1", rates=(REQUESTS,), caps=()),
)
amounts = st.integers(0, 120)
tokens = st.integers(0, 60)


class Level:
    """A bucket by the book: exact, with fractions."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit, self.level, self.at = limit, Fraction(limit.capacity), 0

    def refilled(self, ns: int) -> Fraction:
        gained = Fraction((ns - self.at) * self.limit.refill, self.limit.window_s * SECOND)
        self.level, self.at = min(Fraction(self.limit.capacity), self.level + gained), ns
        return self.level


class Limits(RuleBasedStateMachine):
    """Of a limiter of either kind: `begin` makes it, with an account of `CREDIT`, or one for each of several processes;
    `now` gives a coroutine's value."""

    limiters: Sequence[MemoryLimiter | SharedLimiter]
    turn = 0

    def __init__(self) -> None:
        super().__init__()
        self.ns = 0
        self.begin()
        for limiter in self.limiters:
            limiter.set_allowance(ORGANIZATION, ALLOWANCE)
            for policy in POLICIES:
                self.now(limiter.configure(policy, organization=ORGANIZATION))
        self.levels = {(p.scope_id, r): Level(r) for p in POLICIES for r in p.rates if r != GATE}
        self.posted, self.undrained, self.sequence = CREDIT, 0, 0
        self.day_used: dict[int, int] = defaultdict(int)
        self.total_used = 0
        self.open: dict[str, tuple[Ask, int]] = {}
        self.ended: list[str] = []
        self.made = 0

    @abstractmethod
    def begin(self) -> None: ...

    @property
    def limiter(self) -> MemoryLimiter | SharedLimiter:
        """Of another process each time."""
        self.turn += 1
        return self.limiters[self.turn % len(self.limiters)]

    def of(self, subject: Subject) -> MemoryLimiter | SharedLimiter:
        """A key's requests come through one process: it knows their holds."""
        return self.limiters[int(subject.key[-1]) % len(self.limiters)]

    @abstractmethod
    def now(self, work: Coroutine[Any, Any, T]) -> T: ...

    def scopes(self, ask: Ask) -> tuple[str, str, str]:
        return ask.subject.organization, ask.subject.project, ask.subject.key

    def buckets(self, ask: Ask) -> list[tuple[Level, int]]:
        """The levels that `ask` meets, with what it takes of each."""
        wants = {"requests": 1, "input_tokens": ask.input_tokens, "output_tokens": ask.output_tokens}
        return [
            (level, wants[limit.metric])
            for (scope_id, limit), level in self.levels.items()
            if scope_id in self.scopes(ask) and limit.mode in (None, ask.subject.mode)
        ]

    def held(self, *, day: int | None = None, project: str | None = None) -> int:
        return sum(
            ask.amount for ask, of in self.open.values() if day in (None, of) and project in (None, ask.subject.project)
        )

    def money(self, ask: Ask, day: int) -> list[tuple[str, bool]]:
        left = self.posted - self.undrained - self.held() + ALLOWANCE
        fits = [("credit", ask.amount <= left), ("spend", self.day_used[day] + self.held(day=day) + ask.amount <= 300)]
        if ask.subject.project == "prj_1":
            fits.append(("spend", self.total_used + self.held(project="prj_1") + ask.amount <= 500))
        return fits

    def today(self) -> int:
        return (START + self.ns) // DAY

    @rule(
        key=st.sampled_from(sorted(PROJECTS)),
        mode=st.sampled_from(["instant", "thinking"]),
        n=tokens,
        out=tokens,
        amount=amounts,
    )
    def admit(self, key: str, mode: str, n: int, out: int, amount: int) -> None:
        self.made += 1
        subject = Subject(ORGANIZATION, PROJECTS[key], key, mode)
        ask = Ask(hold_id=f"hold_{self.made}", subject=subject, input_tokens=n, output_tokens=out, amount=amount)
        answer = self.now(self.of(subject).admit(ask))
        broke = [metric for metric, fits in self.money(ask, self.today()) if not fits]
        rates = [(level, want) for level, want in self.buckets(ask) if level.refilled(self.ns) < want]
        under_way = sum(1 for other, _ in self.open.values() if other.subject.project == "prj_1")
        gate = PROJECTS[key] == "prj_1" and under_way >= GATE.capacity
        if broke:
            assert isinstance(answer, Refused)
            assert answer.state.metric == broke[0]
        elif rates or gate:
            assert isinstance(answer, Refused)
            assert answer.state.kind == "rate"
            self.check_wait(answer, rates)
        else:
            assert isinstance(answer, Admitted)
            for level, want in self.buckets(ask):
                level.level -= want
            self.open[ask.hold_id] = (ask, self.today())

    def check_wait(self, answer: Refused, rates: list[tuple[Level, int]]) -> None:
        """Whoever waits as told finds room in every bucket, and not a nanosecond earlier."""
        if any(want > level.limit.capacity for level, want in rates):
            assert answer.retry_after_s is None
        elif answer.state.metric != "concurrent_requests":
            assert answer.retry_after_s is not None
            waits = [(want - level.level) * level.limit.window_s / level.limit.refill for level, want in rates]
            assert abs(answer.retry_after_s - max(waits)) < Fraction(2, SECOND)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), amount=amounts, out=tokens)
    def extend(self, data: st.DataObject, amount: int, out: int) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.open)))
        ask, day = self.open[hold_id]
        more = Ask(hold_id=hold_id, subject=ask.subject, input_tokens=0, output_tokens=out, amount=amount)
        answer = self.now(self.of(ask.subject).extend(hold_id, amount=amount, output_tokens=out))
        outputs = [level for level, _ in self.buckets(ask) if level.limit.metric == "output_tokens"]
        fits = all(ok for _, ok in self.money(more, day)) and all(o.refilled(self.ns) >= out for o in outputs)
        assert isinstance(answer, Admitted if fits else Refused)
        if fits:
            for level in outputs:
                level.level -= out
            grown = Ask(
                hold_id=hold_id,
                subject=ask.subject,
                input_tokens=ask.input_tokens,
                output_tokens=ask.output_tokens + out,
                amount=ask.amount + amount,
            )
            self.open[hold_id] = (grown, day)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), part=st.fractions(0, 1))
    def settle(self, data: st.DataObject, part: Fraction) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.open)))
        ask, day = self.open.pop(hold_id)
        used = Used(
            input_tokens=int(ask.input_tokens * part),
            cached_tokens=ask.input_tokens - int(ask.input_tokens * part),
            output_tokens=int(ask.output_tokens * part),
            amount=int(ask.amount * part),
        )
        assert self.now(self.of(ask.subject).settle(hold_id, used))
        self.undrained += used.amount
        self.day_used[day] += used.amount
        self.total_used += used.amount if ask.subject.project == "prj_1" else 0
        self.give_back(ask, ask.input_tokens - used.input_tokens, ask.output_tokens - used.output_tokens)
        self.ended.append(hold_id)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.open)))
        ask, _ = self.open.pop(hold_id)
        assert self.now(self.of(ask.subject).release(hold_id))
        self.give_back(ask, ask.input_tokens, ask.output_tokens)
        self.ended.append(hold_id)

    def give_back(self, ask: Ask, inputs: int, outputs: int) -> None:
        back = {"requests": 0, "input_tokens": inputs, "output_tokens": outputs}
        for level, _ in self.buckets(ask):
            level.level = min(Fraction(level.limit.capacity), level.refilled(self.ns) + back[level.limit.metric])

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def end_again(self, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(self.ended))
        assert not self.now(
            self.limiter.settle(hold_id, Used(input_tokens=9, cached_tokens=9, output_tokens=9, amount=9))
        )
        assert not self.now(self.limiter.release(hold_id))

    @precondition(lambda self: self.undrained)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        amount = data.draw(st.integers(1, self.undrained))
        limiter = self.limiter
        self.now(limiter.drained(ORGANIZATION, amount))
        self.now(limiter.flow(ORGANIZATION))  # it answers in order: all know it then
        self.undrained -= amount
        self.posted -= amount

    @rule(delta=st.integers(-100, 200))
    def post(self, delta: int) -> None:
        self.sequence += 1
        assert self.now(self.limiter.posted(ORGANIZATION, sequence=self.sequence, delta=delta))
        assert not self.now(self.limiter.posted(ORGANIZATION, sequence=self.sequence, delta=delta))
        self.posted += delta

    @rule(policy=st.sampled_from(POLICIES))
    def configure_again(self, policy: Policy) -> None:
        """The same policy once more changes nothing."""
        self.now(self.limiter.configure(policy, organization=ORGANIZATION))

    @rule(us=st.one_of(st.integers(1, 5_000_000), st.sampled_from([333_333, DAY // 3000])))
    def wait(self, us: int) -> None:
        self.ns += us * 1000

    @invariant()
    def balance_is_the_models(self) -> None:
        balance = self.now(self.limiter.balance(ORGANIZATION))
        assert (balance.posted, balance.undrained, balance.held) == (self.posted, self.undrained, self.held())
        assert balance.available == self.posted - self.undrained - self.held()
        assert sum(limiter.holds_open for limiter in self.limiters) == len(self.open)

    @invariant()
    def states_are_the_models(self) -> None:
        for key, project in PROJECTS.items():
            for state in self.now(self.limiter.states(Subject(ORGANIZATION, project, key, "instant"))):
                if state.kind == "rate" and state.metric != "concurrent_requests":
                    (level,) = (
                        lv
                        for (scope_id, limit), lv in self.levels.items()
                        if (scope_id, limit.metric, limit.mode) == (state.scope_id, state.metric, state.mode)
                    )
                    assert state.left == max(0, level.refilled(self.ns) // 1)
                if state.kind == "cap" and state.scope == "organization":
                    assert (state.used, state.held) == (self.day_used[self.today()], self.held(day=self.today()))


class InProcess(Limits):
    def begin(self) -> None:
        limiter = MemoryLimiter(lambda: self.ns, lambda: START + self.ns)
        self.limiters = [limiter]
        self.now(limiter.open_account(ORGANIZATION, posted=CREDIT, sequence=0))

    def now(self, work: Coroutine[Any, Any, T]) -> T:
        """Of one that must not suspend."""
        try:
            work.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        raise AssertionError("the limiter suspended")


class Shared(Limits):
    """Two processes. Their time is in microseconds, the script's own."""

    url: ClassVar[str]

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        worlds = self.now(shared_worlds(self.stack, self.url, 2))
        self.limiters = [world.limiter for world in worlds]
        self.world = worlds[0]
        self.world.noon = START

    def now(self, work: Coroutine[Any, Any, T]) -> T:
        if hasattr(self, "world"):
            self.ns -= self.ns % self.world.tick
            self.world.ns = self.ns
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.now(self.stack.aclose())
        self.loop.close()


InProcess.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
Shared.TestCase.settings = settings(
    max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestInProcess = InProcess.TestCase
TestShared = Shared.TestCase


@pytest.fixture(autouse=True, scope="module")
def server(redis_server: ValkeyServer) -> None:
    """A state machine can't ask for a fixture."""
    Shared.url = redis_server.url
