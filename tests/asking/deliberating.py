"""A deliberation of scripted agents, and its bill against the worker's book."""

from __future__ import annotations

from typing import Any

from asking.allowance import Book
from doubles.worker_process import Behaviour, Entry, FakeWorker, Match


def say(worker: FakeWorker, agent: int, text: str, *, phase: str = "t", **fields: Any) -> None:
    worker.script(Behaviour(text=text, **fields), Match(phase=phase, agent=agent))


def prompts(worker: FakeWorker, phase: str) -> list[list[int]]:
    """The ids of the calls of a phase, in the order in which they came."""
    bodies = [seen.body for seen in worker.requests() if seen.path in ("/generate", "/v1/chat/completions")]
    return [body["input_ids"] for body in bodies if body["rid"].rpartition(".")[2].startswith(phase)]


def check_book(book: Book, worker: FakeWorker) -> dict[str, Entry]:
    """The bill's counts are the worker's, call by call."""
    entries = {entry.rid: entry for entry in worker.wait_idle()}
    assert set(entries) == {call.spec.rid for call in book.calls if call.worker is not None}
    for call in book.calls:
        entry = entries[call.spec.rid]
        counts = call.end.counts
        assert counts is not None, call
        assert (counts.prompt, counts.cached) == (entry.prompt, entry.cached)
        assert counts.reasoning + counts.output == entry.completion
        assert entry.prompt <= call.spec.prompt_bound
    return entries
