"""The limiter: rate limits, concurrency, caps and credit as one atomic step, and the hold that comes out of it.

Two implementations (in process, `memory.py`; for many processes by Redis or Valkey, `shared/`), one test suite. The
in-process limiter never suspends; the shared one does, may be cancelled anywhere, and may be away (LimiterUnavailable).

Buckets have capacity C and refill r per second: a window of t seconds grants at most C + r*t. Caps and credit are money
and exact. All amounts are nano-USD.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

Scope = Literal["organization", "project", "key"]
Metric = Literal["requests", "input_tokens", "output_tokens", "concurrent_requests", "spend", "credit"]
Kind = Literal["rate", "cap", "credit"]


class Subject(Struct, frozen=True, gc=False):
    """Who asks: every limit of these three scopes, for this mode or for all modes, applies."""

    organization: str
    project: str
    key: str
    mode: str


class Ask(Struct, frozen=True, gc=False, kw_only=True):
    """What one request needs to begin. `hold_id` comes from the caller; admitting it twice is an error of ours."""

    hold_id: str
    subject: Subject
    input_tokens: int
    output_tokens: int
    amount: int


class LimitState(Struct, frozen=True, kw_only=True):
    """One limit as `GET /v1/limits` and the headers show it. `resets_at` is seconds since the epoch, None for a credit."""

    scope: Scope
    scope_id: str
    metric: Metric
    mode: str | None
    kind: Kind
    limit: int
    used: int
    held: int
    left: int
    resets_at: float | None
    window_s: int | None = None


class Admitted(Struct, frozen=True):
    """`headers` are the tightest rate limits after this admission: requests, input tokens, output tokens (each may lack)."""

    hold_id: str
    requests: LimitState | None = None
    input_tokens: LimitState | None = None
    output_tokens: LimitState | None = None


class Refused(Struct, frozen=True, kw_only=True):
    """Which limit of whom refused. Nothing was debited. `retry_after_s` is None where waiting can never help.

    `is_unasked`: none did, the limiter could not be asked (only of `extend`).
    """

    state: LimitState
    asked: int
    retry_after_s: float | None
    is_unasked: bool = False


class Used(Struct, frozen=True, gc=False, kw_only=True):
    """What a request really used, at settlement. `input_tokens` excludes `cached_tokens`, which return."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    amount: int


class Balance(Struct, frozen=True, kw_only=True):
    """`available` = posted - undrained - held: what a new request may still hold."""

    available: int
    held: int
    posted: int
    undrained: int


class Holder(Struct, frozen=True, kw_only=True):
    """What one key holds of a scope at this moment, by its open holds."""

    key: str
    requests: int
    amount_nano_usd: int
    output_tokens: int


HOLDERS_SHOWN = 5


class HoldFault(Exception):
    """A hold was used against its contract: its id admitted twice, or more used than held. A fault of ours, never of
    a caller's."""


class LimiterUnavailable(Exception):
    """What processes share can't be asked now: nothing new may begin (503). A hold taken meanwhile is given back."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class Limiter(Protocol):
    """`admit`, `balance`, `states`, `holders` and `posted` raise LimiterUnavailable; the others never do."""

    async def admit(self, ask: Ask) -> Admitted | Refused:
        """All or nothing, also where the caller is cancelled meanwhile: then nothing."""
        ...

    async def extend(self, hold_id: str, *, amount: int, output_tokens: int) -> Admitted | Refused:
        """Add to an open hold. Refused leaves the hold as it was; so does a limiter that can't be asked. KeyError where no
        such hold is open."""
        ...

    async def settle(self, hold_id: str, used: Used) -> bool:
        """End the hold by what was used (never more than held), give the rest back. Idempotent: False if done.

        Where the limiter can't be asked it is done as soon as it can, whatever becomes of the caller.
        """
        ...

    async def release(self, hold_id: str) -> bool:
        """End the hold as if it had never been, the request's own count excepted. Idempotent."""
        ...

    async def balance(self, organization: str) -> Balance: ...

    async def states(self, subject: Subject) -> list[LimitState]:
        """Every limit that applies to the subject (any mode), with the credit last."""
        ...

    async def holders(self, organization: str, scope_id: str) -> list[Holder]:
        """The keys that hold most of a scope (the organization, or a project or key of it), at most HOLDERS_SHOWN, by
        amount. Looks at every open hold: for what is refused, not for what is admitted."""
        ...

    async def posted(self, organization: str, *, sequence: int, delta: int) -> bool:
        """Money that came in (or went) by the one door, applied once per sequence. False if applied before."""
        ...

    async def drained(self, organization: str, amount: int) -> None:
        """Usage of this amount moved from `undrained` to the ledger."""
        ...
