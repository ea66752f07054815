"""Text of a chain up to its close marker, which may arrive in pieces and must not be seen."""

from __future__ import annotations


class HoldBack:
    """Gives text on as soon as it can't be part of `marker` any more; from the marker on nothing comes out.

    Whitespace before the first other character is dropped. With an empty marker nothing is held.
    """

    __slots__ = ("_held", "_marker", "_started", "found")

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._held: str = ""
        self._started = False
        self.found = False

    def feed(self, text: str) -> str:
        """What may be shown now."""
        if self.found:
            return ""
        text = self._held + text
        marker = self._marker
        if marker and (at := text.find(marker)) >= 0:
            self.found = True
            self._held = ""
            return self._lead(text[:at])
        keep = self._begun(text)
        self._held = text[len(text) - keep :]
        return self._lead(text[: len(text) - keep])

    def end(self) -> str:
        """What was held although the marker never came."""
        held, self._held = self._held, ""
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
