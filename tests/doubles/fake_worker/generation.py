"""One running sequence: what it has made so far, and why it ended. No I/O, no clock."""

import codecs
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from doubles.fake_worker.shapes import JsonObject
from doubles.fake_worker.speech import Lane, Speech
from doubles.fake_worker.vocabulary import END, piece

Reason = Literal["stop", "length", "abort"]


class Finish(Struct, frozen=True):
    """Why a sequence ended; `matched` is the stop text or the stop token's id."""

    reason: Reason
    matched: int | str | None = None
    length: int = 0


class Sampling(Struct, frozen=True, kw_only=True):
    """The part of the sampling parameters that ends a sequence or shapes its text."""

    limit: int
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    keep_stop: bool = False
    ignore_eos: bool = False
    skip_special: bool = True


class Made(Struct):
    """What one decode step showed: a token, its lane, and the text or tool-call deltas that it completed."""

    token: int
    lane: Lane
    text: str
    deltas: Sequence[JsonObject]


class Generation:
    """A sequence in decode. `advance()` makes one token; `finish` is set by the step that ended it."""

    def __init__(self, speech: Speech, sampling: Sampling, *, overrun: int = 0) -> None:
        self._speech = speech
        self._sampling = sampling
        self._limit = sampling.limit + overrun
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._aborted_at: int | None = None
        self.ids: list[int] = []
        self.text = ""
        self.reasoning = 0
        self.finish: Finish | None = Finish("length", length=0) if self._limit <= 0 else None

    @property
    def completion(self) -> int:
        """Tokens made."""
        return len(self.ids)

    @property
    def has_calls(self) -> bool:
        return self._speech.has_calls

    def abort(self, steps: int) -> None:
        """End after `steps` more decode steps, unless it ends by itself before."""
        if self._aborted_at is None:
            self._aborted_at = self.completion + steps
            if steps <= 0 and self.finish is None:
                self.finish = Finish("abort")

    @property
    def is_holding(self) -> bool:
        """The text ends as a stop text begins, so nothing is shown until the next token tells."""
        return any(self.text.endswith(stop[:size]) for stop in self._sampling.stop for size in range(1, len(stop)))

    @property
    def is_aborting(self) -> bool:
        return self._aborted_at is not None

    def advance(self) -> Made:
        """One decode step. Calling it after the finish is a fault of the caller."""
        assert self.finish is None, "a finished sequence makes no token"
        token, lane = self._speech.steps[self.completion]
        self.ids.append(token)
        if lane in (Lane.REASONING, Lane.CLOSE):
            self.reasoning += 1
        raw = self._decoder.decode(piece(token, skip_special=self._sampling.skip_special))
        return self._end(Made(token, lane, raw, self._speech.deltas.get(self.completion, ())))

    def _end(self, made: Made) -> Made:
        """Find out whether this step was the last, in the order in which SGLang asks."""
        before = len(self.text)
        self.text += made.text
        sampling = self._sampling
        stop_text = next((s for s in sampling.stop if s in self.text[max(0, before - len(s)) :]), None)
        is_end = made.token == END and not sampling.ignore_eos
        if self._aborted_at is not None and self.completion >= self._aborted_at:
            self.finish = Finish("abort")
        elif self.completion >= self._limit:
            self.finish = Finish("length", length=self.completion)
        elif is_end or made.token in sampling.stop_ids:
            self.finish = Finish("stop", made.token)
            if not sampling.keep_stop:
                self.text = self.text[:before]
        elif stop_text is not None:
            self.finish = Finish("stop", stop_text)
            if not sampling.keep_stop:
                self.text = self.text[: self.text.index(stop_text, max(0, before - len(stop_text)))]
        elif self.completion == len(self._speech.steps):
            self.finish = Finish("stop", END)
        if self.finish is not None and self.finish.reason != "stop":
            self.text += self._decoder.decode(b"", final=True)
        made.text = self.text[before:]
        return made
