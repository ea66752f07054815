"""The worker's book against what the gateway exported: the comparison that every invariant test ends with."""

from __future__ import annotations

from typing import Any

from doubles.worker_process import Entry, FakeWorker
from gateway import Gateway

Line = dict[str, Any]


def calls(worker: FakeWorker) -> dict[str, Entry]:
    """The worker's ended calls that came from customers; our own probes carry rids `sys_…`."""
    return {entry.rid: entry for entry in worker.wait_idle() if not entry.rid.startswith("sys_")}


def compare(worker: FakeWorker, gateway: Gateway) -> tuple[dict[str, Entry], dict[str, Line]]:
    """I1 for every call: one record each, and reasoning + output + unbilled = what the worker made."""
    book = calls(worker)
    lines = {line["rid"]: line for line in gateway.drained_export(len(book))}
    assert lines.keys() == book.keys()
    for rid, entry in book.items():
        line = lines[rid]
        if line["state"] == "failed":
            continue
        assert line["measured_input"] + line["measured_cached"] == entry.prompt, rid
        assert line["measured_cached"] == entry.cached, rid
        made = line["reasoning"] + line["output"]
        assert line["unbilled"] is not None, rid
        assert made + line["unbilled"] == entry.completion, (rid, line, entry)
    return book, lines


def money(lines: dict[str, Line]) -> int:
    return sum(line["amount_nano_usd"] - line["credited_nano_usd"] for line in lines.values())
