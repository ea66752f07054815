"""What an agent leaves to the others: its conclusion, as text for the vote and as ids for a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from museway_engine.allowance import CallSpec
from museway_engine.modes.contemplating.vote import Key, canon
from museway_engine.profiles.facts import Facts
from museway_engine.worker.generate import Piece


class Draft(Struct, frozen=True, kw_only=True):
    """`ids` are the worker's own, without those that structure a prompt, cut to the profile's draft size from the
    front: conclusions stand at the end. `tokens` is the whole size of the agent's work."""

    agent: int
    rid: str
    text: str
    ids: tuple[int, ...]
    key: Key | None
    tokens: int


def conclusion(
    spec: CallSpec, pieces: Sequence[Piece], facts: Facts, *, tokens: int, is_cut: bool = False
) -> Draft | None:
    """The text after the close of thinking, where the model thinks natively; else the whole. None where there is none.

    A chain that never closed concludes nothing, unless `is_cut`: then what there is is taken.
    """
    rules = facts.profile.thinking
    if rules.is_native:
        after = _after_close(pieces, rules.close, facts.thinking.close_id)
        if after is None and not is_cut:
            return None
        pieces = pieces if after is None else after
    text = "".join(piece.text for piece in pieces).strip()
    ids = tuple(token for piece in pieces for token in piece.ids if token not in facts.special)
    if not text or not ids:
        return None
    size = facts.profile.contemplating.draft_tokens
    return Draft(agent=spec.agent, rid=spec.rid, text=text, ids=ids[-size:], key=canon(text), tokens=tokens)


def _after_close(pieces: Sequence[Piece], close: str, close_id: int | None) -> Sequence[Piece] | None:
    """The pieces that begin after the close tag; a piece that holds its end belongs to the chain."""
    text = ""
    for place, piece in enumerate(pieces):
        text += piece.text
        if close in text or (close_id is not None and close_id in piece.ids):
            return pieces[place + 1 :]
    return None
