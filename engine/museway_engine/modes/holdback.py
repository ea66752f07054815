"""Text of a chain up to its close marker, which may arrive in pieces and must not be seen."""

from __future__ import annotations


class HoldBack:
    """Gives text on as soon as it can't be part of `marker` any more; from the marker on nothing comes out.

    What was fed together comes out together, or later: a token whose end may begin the marker waits whole, so that there
    are never more pieces of text than tokens that were counted. Whitespace before the first other character is dropped.
    With an empty marker nothing is held.
    """

    __slots__ = ("_held", "_marker", "_started", "found")

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._held: list[str] = []
        self._started = False
        self.found = False

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.found:
            return ""
        self._held.append(text)
        whole, marker = "".join(self._held), self._marker
        if marker and (at := whole.find(marker)) >= 0:
            self.found = True
            self._held.clear()
            return self._lead(whole[:at])
        free = len(whole) - self._begun(whole)
        shown = 0
        while self._held and shown + len(self._held[0]) <= free:
            shown += len(self._held.pop(0))
        return self._lead(whole[:shown])

    def end(self) -> str:
        """What was held although the marker never came."""
        held = "".join(self._held)
        self._held.clear()
        return self._lead(held)

    def _begun(self, text: str) -> int:
        """How many of the last characters could be the marker's beginning."""
        marker = self._marker
        longest = min(len(marker) - 1, len(text))
        return next((size for size in range(longest, 0, -1) if text.endswith(marker[:size])), 0)

    def _lead(self, text: str) -> str:
        if self._started:
            return text
        text = text.lstrip()
        self._started = bool(text)
        return text
