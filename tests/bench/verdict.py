"""The worker's book, the exported records, the balance and what clients got, held against each other. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from bench.caller import Delivered
from doubles.fake_worker.book import Entry

_OURS = "req_"
"""Our own probes carry `sys_…`: they stand in no export and on no bill."""


class Record(Struct, kw_only=True):
    """One line of `museway usage export`, as far as it is judged. Unknown fields are ignored."""

    id: str
    request_id: str
    rid: str
    mode: str
    phase: str
    input: int | None
    cached_input: int | None
    measured_input: int | None
    measured_cached: int | None
    reasoning: int | None
    output: int | None
    unbilled: int | None
    state: Literal["complete", "interrupted", "unknown", "failed"]
    amount_nano_usd: int
    credited_nano_usd: int

    @property
    def billed(self) -> int:
        """Tokens made that stand on the bill."""
        return (self.reasoning or 0) + (self.output or 0)


class Balance(Struct, kw_only=True):
    """`GET /v1/balance`, as far as it is judged."""

    available_nano_usd: int
    held_nano_usd: int
    undrained_nano_usd: int = 0


class Difference(Struct, frozen=True, order=True):
    """Something that does not agree, and whose."""

    about: str
    what: str


def compare(book: Iterable[Entry], records: Sequence[Record], *, unread: bool = False) -> list[Difference]:
    """Every call that the worker ran in exactly one record, count for count.

    `unread`: the gateway may not have read the counts that the worker sent: it was killed, or stopped reading garbage.
    """
    by_rid: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_rid[record.rid].append(record)
    entries = [entry for entry in book if entry.rid.startswith(_OURS)]
    found: list[Difference] = []
    for entry in entries:
        match by_rid.get(entry.rid, []):
            case [record]:
                found += [Difference(entry.rid, what) for what in _one_call(entry, record, unread=unread)]
            case several:
                found.append(Difference(entry.rid, f"stands in {len(several)} records, not in one"))
    known = {entry.rid for entry in entries}
    for record in records:
        if record.rid not in known and (record.billed or record.input or record.cached_input or record.amount_nano_usd):
            found.append(Difference(record.rid, "is billed and the worker never ran it"))
    return found


def _one_call(entry: Entry, record: Record, *, unread: bool) -> Iterable[str]:
    if record.billed > entry.completion:
        yield f"{record.billed} tokens billed, {entry.completion} made"
    if record.unbilled is None:
        if (entry.usage_sent and not unread) or record.state == "complete":
            yield f"unbilled is unknown though the worker reported {entry.completion}"
        return
    if record.billed + record.unbilled != entry.completion:
        yield f"{record.reasoning} reasoning + {record.output} output + {record.unbilled} unbilled, {entry.completion} made"
    if (record.measured_input or 0) + (record.measured_cached or 0) != entry.prompt:
        yield f"{record.measured_input} + {record.measured_cached} prompt tokens measured, {entry.prompt} read"
    if (record.measured_cached or 0) != entry.cached:
        yield f"{record.measured_cached} cached tokens measured, {entry.cached} cached"


def compare_delivered(delivered: Iterable[Delivered], records: Sequence[Record]) -> list[Difference]:
    """What left for a client is billed, and what a client was told it costs is what its records say."""
    by_request: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_request[record.request_id].append(record)
    found: list[Difference] = []
    for one in delivered:
        if one.problem:
            found.append(Difference(one.request_id or one.form, one.problem))
        if one.request_id:
            own = by_request[one.request_id]
            found += [Difference(one.request_id, f"{one.form}: {what}") for what in _one_request(one, own)]
    return found


def _one_request(one: Delivered, own: Sequence[Record]) -> Iterable[str]:
    if any(record.state == "unknown" for record in own):
        return  # shown as being reconciled: nothing is claimed of its counts yet (I8)
    output = sum(record.output or 0 for record in own)
    reasoning = sum(record.reasoning or 0 for record in own)
    if one.output_events > output:
        yield f"{one.output_events} tokens of output delivered, {output} billed"
    if one.reasoning_events > reasoning:
        yield f"{one.reasoning_events} tokens of reasoning delivered, {reasoning} billed"
    if one.left or one.status != 200:
        return
    if unbilled := sum(record.unbilled or 0 for record in own):
        yield f"{unbilled} tokens unbilled though the client stayed to the end"
    if one.museway is None:
        yield "the answer tells no cost"
        return
    charged = sum(record.amount_nano_usd - record.credited_nano_usd for record in own)
    if one.museway["cost_nano_usd"] != charged:
        yield f"the answer says {one.museway['cost_nano_usd']} nano-USD, its records {charged}"
    if one.usage is not None and one.usage["completion_tokens"] != output + reasoning:
        yield f"the answer says {one.usage['completion_tokens']} tokens made, its records {output + reasoning}"
    billed_input = sum((record.input or 0) + (record.cached_input or 0) for record in own)
    if one.usage is not None and one.usage["prompt_tokens"] != billed_input:
        yield f"the answer says {one.usage['prompt_tokens']} tokens of input, its records {billed_input}"


def compare_balance(before: Balance, after: Balance, records: Sequence[Record]) -> list[Difference]:
    """The records' sum is what the balance fell by, and nothing is held any more."""
    found: list[Difference] = []
    if after.held_nano_usd != before.held_nano_usd:
        found.append(Difference("balance", f"{after.held_nano_usd} nano-USD still held, {before.held_nano_usd} before"))
    drop = before.available_nano_usd - after.available_nano_usd
    charged = sum(record.amount_nano_usd - record.credited_nano_usd for record in records)
    if drop != charged:
        found.append(Difference("balance", f"fell by {drop} nano-USD, the records say {charged}"))
    return found
