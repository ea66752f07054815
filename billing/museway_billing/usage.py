"""The usage record: one per engine call, the row that everything else sums (DESIGN §4 `usage export`)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from museway_billing.money import NanoUsd, NanoUsdPerMtok


class TokenClass(StrEnum):
    INPUT = "input"
    CACHED_INPUT = "cached_input"
    REASONING = "reasoning"
    OUTPUT = "output"


class State(StrEnum):
    """`complete`: the final usage was read. `interrupted`: cut short, counts are a floor. `unknown`: text went out and no
    count came (I8). `failed`: nothing was delivered, nothing is billed."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"
    FAILED = "failed"


class Tariff(Struct, frozen=True, gc=False, array_like=True):
    """The prices of one model and mode for one organization under one version of the price book."""

    version: int
    input: NanoUsdPerMtok
    cached_input: NanoUsdPerMtok
    reasoning: NanoUsdPerMtok
    output: NanoUsdPerMtok

    def price(self, token_class: TokenClass) -> NanoUsdPerMtok:
        match token_class:
            case TokenClass.INPUT:
                return self.input
            case TokenClass.CACHED_INPUT:
                return self.cached_input
            case TokenClass.REASONING:
                return self.reasoning
            case TokenClass.OUTPUT:
                return self.output


class CallIdentity(Struct, frozen=True, gc=False, array_like=True):
    """All of a call that is known before it is sent: what its journal slot holds, so that a record can be made of a slot
    alone. `created` is microseconds since the epoch, UTC, fixed here (the partition key). `priced_prompt` and
    `policy_cached` are the pricing policy of its prompt (`museway_engine.allowance.CallSpec`). New fields go last."""

    record_id: str
    request_id: str
    rid: str
    hold_id: str
    organization: str
    project: str
    key: str
    mode: str
    phase: str
    agent: int
    model: str
    tariff: Tariff
    created: int
    priced_prompt: int | None = None
    policy_cached: int = 0
    internal: bool = False
    idempotency_hash: bytes = b""
    prompt_bound: int | None = None
    """What the hold was taken for: the prompt is never charged beyond it, whatever the worker counts."""


class Line(Struct, frozen=True, gc=False, array_like=True):
    """One priced line: amount = tokens x price, rounded once. Lines with 0 tokens are left out."""

    token_class: TokenClass
    tokens: int
    price_nano_usd_per_mtok: NanoUsdPerMtok
    amount_nano_usd: NanoUsd


class UsageRecord(Struct, frozen=True, kw_only=True):
    """What one engine call used and costs. None is "unknown", never 0.

    `input` excludes `cached_input`, `measured_input` excludes `measured_cached`. The first pair is billed (policy), the
    second is what the worker said. reasoning + output + unbilled = what the worker reported (I1). `credited_nano_usd` is
    given back at once by policy (worker lost); later corrections are ledger entries. `reserve_nano_usd`: of an `unknown`
    record, what stays reserved until its count is known or given up (I8). Times: microseconds, UTC.
    """

    id: str
    request_id: str
    rid: str
    hold_id: str
    organization: str
    project: str
    key: str
    mode: str
    phase: str
    agent: int
    model: str
    worker: str | None
    input: int | None
    cached_input: int | None
    measured_input: int | None
    measured_cached: int | None
    reasoning: int | None
    output: int | None
    unbilled: int | None
    state: State
    price_version: int
    lines: tuple[Line, ...]
    amount_nano_usd: NanoUsd
    credited_nano_usd: NanoUsd = NanoUsd(0)
    reserve_nano_usd: NanoUsd = NanoUsd(0)
    created: int
    ended: int

    @property
    def taken_nano_usd(self) -> NanoUsd:
        """What it takes of what its organization may spend: billed, less given back, and what is reserved."""
        return NanoUsd(self.amount_nano_usd - self.credited_nano_usd + self.reserve_nano_usd)
