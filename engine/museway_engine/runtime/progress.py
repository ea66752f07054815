"""What the long steps of the runtime tell whoever waits for them."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told in order: `step`, then any number of `update`, then `done`; then the next `step`.

    Called from the thread that runs the step, at most a few times a second. A step that fails or is interrupted gets no
    `done`: the exception says what happened.
    """

    def step(self, name: str) -> None:
        """A step begins; `name` is one line for a person ("Loading the model's weights")."""
        ...

    def update(self, done_bytes: int | None, total: int | None) -> None:
        """Bytes dealt with so far, and about how many there will be. None: not known, not zero."""
        ...

    def done(self, seconds: float, size_bytes: int | None) -> None:
        """The step has ended well after `seconds`; `size_bytes` is what it left on the disk, None where it left none."""
        ...


class Silent:
    """Says nothing."""

    def step(self, name: str) -> None: ...

    def update(self, done_bytes: int | None, total: int | None) -> None: ...

    def done(self, seconds: float, size_bytes: int | None) -> None: ...
