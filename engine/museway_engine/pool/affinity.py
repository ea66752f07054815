"""Which workers a conversation prefers: a stateless hash, equal on every gateway and after every restart.

Measured on a trace (ROUTING §1): a hash of what differs between conversations does as well as a perfect index, for any
number of gateways; a private prefix tree per gateway loses half its hits by eight of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from museway_engine.completion import Completion

_SYSTEM_BYTES = 65_536
_USER_BYTES = 4_096


class Named(Protocol):
    """What can be ranked."""

    @property
    def url(self) -> str: ...


N = TypeVar("N", bound=Named)


def affinity_key(completion: Completion, salt: str) -> bytes:
    """What stays equal over the turns of a conversation and differs between conversations. 16 bytes.

    The caller's own key where there is one, else system text, tools and the first user message (its first 4 KiB);
    within `salt`, so that tenants do not gather on one worker by equal texts.
    """
    digest = hashlib.blake2b(salt.encode(), digest_size=16)
    for part in _parts(completion):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _parts(completion: Completion) -> Iterable[bytes]:
    if completion.affinity is not None:
        yield b"key"
        yield completion.affinity.encode()
        return
    for tool in completion.tools:
        yield tool.name.encode()
    for message in completion.messages:
        text = (message.content or "").encode()
        if message.role == "user":
            yield text[:_USER_BYTES]
            return
        yield text[:_SYSTEM_BYTES]


def rank(key: bytes, workers: Sequence[N]) -> list[N]:
    """The workers, the preferred first (rendezvous hashing): one that goes moves only its own conversations."""
    if len(workers) < 2:
        return list(workers)
    return sorted(workers, key=lambda w: _weight(key, w.url), reverse=True)


def _weight(key: bytes, url: str) -> bytes:
    return hashlib.blake2b(url.encode(), key=key, digest_size=8).digest()
