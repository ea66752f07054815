"""What of a prompt was computed before: a radix tree's answers, without the tree."""

from collections.abc import Iterable, Sequence
from itertools import islice


class PrefixCache:
    """Known prefixes per salt, page size 1, least recently used out first.

    Each prefix is remembered by a rolling hash of its ids, so `match` equals a radix tree's longest match. As with
    SGLang, the last token of a prompt is never counted as cached, and another salt shares nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._known: dict[int, None] = {}

    def match(self, ids: Sequence[int], salt: str) -> int:
        """Tokens of the longest known prefix, at most `len(ids) - 1`."""
        found = 0
        for prefix in _prefixes(ids[:-1], salt):
            if prefix not in self._known:
                break
            found += 1
        return found

    def insert(self, ids: Sequence[int], salt: str) -> None:
        """Remember every prefix; the longest are touched first, so that they are also forgotten first."""
        for prefix in reversed(list(_prefixes(ids, salt))):
            self._known.pop(prefix, None)
            self._known[prefix] = None
        excess = max(0, len(self._known) - self._capacity)
        for oldest in tuple(islice(self._known, excess)):
            del self._known[oldest]

    def clear(self) -> None:
        self._known.clear()


def _prefixes(ids: Sequence[int], salt: str) -> Iterable[int]:
    seen = hash((salt, "root"))
    for token in ids:
        seen = hash((seen, token))
        yield seen
