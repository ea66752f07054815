"""A `/generate` stream → pieces of text with their token ids. Cumulative and incremental streams both are understood."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from museway_engine.events import UNKNOWN
from museway_engine.worker.errors import read_failure
from museway_engine.worker.shapes import GenerateFinish, generated_decoder
from museway_engine.worker.sse import DONE, EventSplitter
from museway_engine.worker.stream import Malformed
from museway_engine.worker.tally import Failure, Tally, finish_of


class Piece(Struct, frozen=True, gc=False):
    """What one event added. `n` is the worker's cumulative count of tokens, UNKNOWN where it gave none.

    `text` may be "" (a token that completes no character, or the end token); `ids` are this worker's own.
    """

    text: str
    ids: tuple[int, ...]
    n: int


class GenerateStream:
    """Reads one generation. `tally.matched` says what stopped it: a token's id or a text."""

    __slots__ = ("_characters", "_ids", "_is_cumulative", "_split", "tally")

    def __init__(self) -> None:
        self._split = EventSplitter()
        self._characters = 0
        self._is_cumulative = False
        self._ids: list[int] = []
        self.tally = Tally()

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that `data` completed. Raises Malformed."""
        pieces: list[Piece] = []
        for payload in self._split.feed(data):
            if payload == DONE:
                self.tally.is_over = True
            elif payload:
                self._take(payload, pieces)
        return pieces

    def end(self) -> list[Piece]:
        """The body ended."""
        return []

    def _take(self, payload: bytes, pieces: list[Piece]) -> None:
        try:
            event = generated_decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise Malformed from error
        meta = event.meta_info
        if meta is None:
            self.tally.failure = self.tally.failure or read_failure(200, payload)
            return
        self.tally.take_meta(meta)
        if event.output_ids or event.text:
            pieces.append(self._piece(event.text, event.output_ids, meta.completion_tokens))
        if meta.finish_reason is not None:
            self._finish(meta.finish_reason)

    def _piece(self, text: str, ids: list[int], n: int | None) -> Piece:
        """Tell a cumulative event from a delta: it repeats all ids so far, and as many as are counted.

        Where the worker does not count, it must have more than before; once seen, a stream stays cumulative.
        """
        before = len(self._ids)
        if 0 < before <= len(ids) and ids[:before] == self._ids:
            self._is_cumulative = self._is_cumulative or (len(ids) >= n if n is not None else len(ids) > before)
        if self._is_cumulative:
            text, ids = text[self._characters :], ids[before:]
        self._characters += len(text)
        self._ids += ids
        self.tally.spoke = True
        return Piece(text, tuple(ids), UNKNOWN if n is None else n)

    def _finish(self, finish: GenerateFinish) -> None:
        tally = self.tally
        tally.finish = finish_of(finish.type)
        tally.matched = finish.matched
        if finish.type == "abort" and finish.status_code is not None:
            tally.failure = Failure(finish.status_code, finish.message or "")
        else:
            tally.is_final = tally.completion >= 0
