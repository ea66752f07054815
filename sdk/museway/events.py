"""What a stream says while it answers: one closed union, made for `match`."""

from __future__ import annotations

from msgspec import Struct

from museway import types
from museway.reply import Cost, Reply


class ReasoningDelta(Struct, frozen=True):
    """A piece of the visible chain."""

    text: str


class OutputDelta(Struct, frozen=True):
    """A piece of the answer."""

    text: str


class ToolCallDelta(Struct, frozen=True):
    """A piece of a tool call: the first of an `index` has `id` and `name`, the rest append to `arguments`."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class AgentProgress(Struct, frozen=True):
    """How far one agent is, in tokens. `agree` of `finished` agents share the leading answer."""

    index: int
    phase: str
    state: str
    tokens: int
    agree: int
    finished: int


class PhaseStarted(Struct, frozen=True):
    """A phase of the mode begins, from this many drafts."""

    phase: str
    round: int
    drafts: int


class ModeChosen(Struct, frozen=True):
    """What mode auto chose, and by which rule."""

    mode: str
    rule: str


class UsageReport(Struct, frozen=True):
    """The bill, just before the end. `usage` is None where a count is being reconciled."""

    usage: types.Usage | None
    cost: Cost
    museway: types.Museway


class Finished(Struct, frozen=True):
    """The last event: the whole answer."""

    reply: Reply


Event = (
    ReasoningDelta | OutputDelta | ToolCallDelta | AgentProgress | PhaseStarted | ModeChosen | UsageReport | Finished
)
