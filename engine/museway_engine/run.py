"""What goes between the gateway and the engine besides requests and events; the engine itself is `museway_engine.engine`."""

from __future__ import annotations

from msgspec import Struct

from museway_engine.completion import Completion, Mode


class Bound(Struct, frozen=True, kw_only=True):
    """Tokens by class that a request can take, at most (or likely, or at least)."""

    input: int
    cached_input: int
    reasoning: int
    output: int


class Prepared(Struct, frozen=True, kw_only=True):
    """A request whose mode, maxima and bounds are decided: pure, no worker was asked.

    `mode` is what was asked for (AUTO stays AUTO), `resolved` what will run. `prompt_bound` is an upper bound of the
    client's prompt in tokens; `max_tokens` the effective maximum of the answer (reasoning included); `budget` the chain's
    budget inside it (Thinking). `first` is the worst case of the first phase, `worst` of the whole request.

    In Contemplating `first` is all agents of round 0 and the synthesis. `is_exact`: a worker counted the prompt.
    """

    completion: Completion
    mode: Mode
    resolved: Mode
    rule: str
    prompt_bound: int
    max_tokens: int
    budget: int
    agents: int
    rounds: int
    agent_max_tokens: int
    first: Bound
    worst: Bound
    likely: Bound
    least: Bound
    is_exact: bool = False


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A served model as `GET /v1/models` shows it."""

    id: str
    context: int
    modes: tuple[Mode, ...]
    created: int


class WorkerState(Struct, frozen=True, kw_only=True):
    url: str
    model: str
    ready: bool
    reason: str
    in_flight: int
