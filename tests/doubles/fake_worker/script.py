"""Scripts: what the worker does for the requests that a rule picks, instead of what it would do by itself."""

from itertools import count

from msgspec import Struct, field

from doubles.fake_worker.shapes import JsonObject


class Match(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which requests a rule is for: all that is given must hold; nothing given picks every request."""

    text: str | None = None
    """Occurs in the prompt's text."""
    rid: str | None = None
    """The rid begins so."""
    phase: str | None = None
    """The phase letter of the rid (`a t r e s c o`), or several of them."""
    agent: int | None = None
    route: str | None = None
    """`chat` or `generate`."""


class Call(Struct, kw_only=True, forbid_unknown_fields=True):
    """A tool call to make; `arguments` is JSON text and may be broken on purpose."""

    name: str
    arguments: str = "{}"


class Behaviour(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to do. Every field left out keeps the default behaviour. Positions count generated tokens."""

    text: str | None = None
    """The whole visible answer."""
    texts: list[str] | None = None
    """One answer per agent of the rid (modulo their number); wins over `text`."""
    reasoning: str | None = None
    """Reasoning before it: `reasoning_content` on chat, an open `<think>` text on `/generate`."""
    calls: list[Call] | None = None
    tokens: int | None = None
    """Length of the default text, the end token excluded."""
    end_token: bool = True
    """A finished text has an end token that only the final usage counts."""
    overrun: int = 0
    """Tokens made beyond the request's maximum."""
    finish: str | None = None
    """Says this finish reason whatever happened."""
    logprob: float | None = None
    """Log probability of every token."""

    delay_ms: float | None = None
    first_delay_ms: float = 0.0
    stall_after: int | None = None
    """Says nothing more after so many tokens, until aborted or left."""
    drop_after: int | None = None
    """Resets the connection after so many tokens (0: before any byte of the answer)."""
    die_after: int | None = None
    """Ends the worker's process after so many tokens."""
    half_chunk_after: int | None = None
    """Sends half an event after so many tokens (a stream's), then closes the connection."""
    close_after: int | None = None
    """Closes the connection after so many tokens (a stream's), without an end."""
    malformed_after: int | None = None
    """Sends a chunk that is no JSON after so many tokens."""
    status: int | None = None
    """Refuses with this status."""
    message: str = "scripted refusal"
    queue_full: bool = False
    error_event_after: int | None = None
    """Sends an error event after so many tokens, then the end of the stream."""

    split_bytes: bool = False
    """Writes the answer to the socket byte by byte."""
    events_per_write: int = 1
    tokens_per_chunk: int = 1
    usage: bool = True
    """Without, neither chunks nor the end carry counts."""
    usage_falls_after: int | None = None
    """Of every token beyond so many, the chunk's count is one less than the one before."""
    final_usages: int = 1
    """How often a stream sends its usage chunk."""
    final_usage: bool = True
    """Without, the stream ends without its usage chunk."""
    done: bool = True
    """Without, the stream ends without `[DONE]`."""
    abort_deaf: bool = False
    """Abort requests have no effect."""
    abort_steps: int | None = None


class Rule(Struct, kw_only=True, forbid_unknown_fields=True):
    """A rule and how often it may still be used (`times` absent: always)."""

    match: Match = field(default_factory=Match)
    do: Behaviour = field(default_factory=Behaviour)
    times: int | None = None


class Rid(Struct, frozen=True):
    """The parts of a gateway's rid that a double needs: `….` phase, round 1, agent 2, choice 2, segment 2, attempt 1."""

    phase: str = ""
    agent: int = 0

    @staticmethod
    def of(rid: str) -> "Rid":
        tail = rid.rpartition(".")[2]
        if len(tail) == 9 and tail[0].isalpha() and tail[1:].isdigit():
            return Rid(tail[0], int(tail[2:4]))
        return Rid()


class Rules:
    """The rules in force. The one added last wins; a rule that is used up is gone."""

    def __init__(self) -> None:
        self._rules: dict[int, Rule] = {}
        self._numbers = count(1)

    def add(self, rule: Rule) -> int:
        """Returns the rule's number."""
        number = next(self._numbers)
        self._rules[number] = rule
        return number

    def clear(self) -> None:
        self._rules.clear()

    def pick(self, *, text: str, rid: str, route: str) -> Behaviour:
        """The behaviour for one request; uses the rule up by one."""
        parts = Rid.of(rid)
        for number in sorted(self._rules, reverse=True):
            rule = self._rules[number]
            if not _holds(rule.match, text, rid, parts, route):
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    del self._rules[number]
            return rule.do
        return Behaviour()


def _holds(match: Match, text: str, rid: str, parts: Rid, route: str) -> bool:
    return (
        (match.text is None or match.text in text)
        and (match.rid is None or rid.startswith(match.rid))
        and (match.phase is None or (parts.phase != "" and parts.phase in match.phase))
        and (match.agent is None or (parts.phase != "" and match.agent == parts.agent))
        and (match.route is None or match.route == route)
    )


class ServerState(Struct, kw_only=True, forbid_unknown_fields=True):
    """State of the server as a whole that a script may set."""

    health: int = 200
    """Status of `/health`, `/health_generate` and `/v1/models`; 0 never answers."""
    server_info: JsonObject = field(default_factory=dict[str, object])
    """Laid over what `/server_info` says."""
    model_info: JsonObject = field(default_factory=dict[str, object])


class Script(Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /_script`: rules to add, or the server's state to set."""

    rules: list[Rule] = field(default_factory=list[Rule])
    server: ServerState | None = None
