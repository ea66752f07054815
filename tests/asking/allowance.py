"""An allowance that allows everything, unless told otherwise, and keeps a book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, field

from museway_engine.allowance import AllowanceRefused, Blame, CallMeter, CallSpec, Counts, Outcome


class Closed(Struct, frozen=True):
    outcome: Outcome
    counts: Counts | None
    blame: Blame


class BookedCall(Struct, kw_only=True):
    """One call as the engine told of it. `counted` is the last `count` of an internal call."""

    spec: CallSpec
    granted: int
    cover: int | None = None
    worker: str | None = None
    prompts: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    counted: int = 0
    closed: list[Closed] = field(default_factory=list[Closed])

    @property
    def max_tokens(self) -> int:
        return self.granted

    @property
    def end(self) -> Closed:
        """How it was closed; fails where it was not, or more than once."""
        assert len(self.closed) == 1, f"{self.spec.rid} closed {len(self.closed)} times"
        return self.closed[0]

    @property
    def produced(self) -> int:
        counts = self.end.counts
        assert counts is not None, f"{self.spec.rid} has no counts: {self.end}"
        return counts.reasoning + counts.output

    def dispatched(self, worker: str) -> None:
        assert self.worker is None, "dispatched twice"
        assert not self.closed
        self.worker = worker

    def prompt(self, prompt: int, cached: int) -> None:
        assert not self.closed
        assert 0 <= cached <= prompt <= self.spec.prompt_bound, f"{prompt} counted, {self.spec.prompt_bound} bound"
        self.prompts.append((prompt, cached))

    def count(self, reasoning: int, output: int) -> bool:
        assert self.spec.internal
        assert reasoning + output >= self.counted, "a cumulative count fell"
        self.counted = reasoning + output
        return self.cover is None or self.counted < self.cover

    async def close(self, outcome: Outcome, counts: Counts | None, blame: Blame = Blame.NONE) -> None:
        self.closed.append(Closed(outcome, counts, blame))


class Book:
    """All calls of a request, in the order of opening. `refuse` says which specs are refused, `fit` what fits,
    `cover` how many tokens of an internal call are covered."""

    def __init__(
        self,
        *,
        refuse: Callable[[CallSpec], bool] = lambda spec: False,
        fit: Callable[[Sequence[CallSpec]], bool] = lambda specs: True,
        cover: Callable[[CallSpec], int | None] = lambda spec: None,
        grant: Callable[[CallSpec], int] = lambda spec: spec.max_tokens,
    ) -> None:
        self.calls: list[BookedCall] = []
        self._refuse = refuse
        self._fit = fit
        self._cover = cover
        self._grant = grant

    async def open(self, spec: CallSpec) -> CallMeter:
        assert spec.rid not in {call.spec.rid for call in self.calls}, f"{spec.rid} opened twice"
        if self._refuse(spec):
            raise AllowanceRefused
        call = BookedCall(spec=spec, granted=self._grant(spec), cover=self._cover(spec))
        self.calls.append(call)
        return call

    def fits(self, specs: Sequence[CallSpec]) -> bool:
        return self._fit(specs)

    def by_rid(self) -> dict[str, BookedCall]:
        return {call.spec.rid: call for call in self.calls}

    def check_closed(self) -> None:
        """Every call was closed exactly once."""
        for call in self.calls:
            assert call.end is not None
