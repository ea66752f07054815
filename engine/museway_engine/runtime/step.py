"""One long command of the installation: watched, logged, and gone when we are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from museway_engine.runtime.cache import size_of
from museway_engine.runtime.guarded import Guarded
from museway_engine.runtime.progress import Progress

_TICK_S = 1.0
_GRACE_S = 3.0
_REASON_CHARS = 300


class InstallFailed(Exception):
    """A step of the installation failed. `reason` is one line; `log` has all that the tools printed."""

    def __init__(self, step: str, reason: str, log: Path) -> None:
        self.step, self.reason, self.log = step, reason, log
        super().__init__(f"{step} failed: {reason} (log: {log})")


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What `run` needs beside the command: a name for people, the log, the lock, and where bytes will appear.

    `lock` is the descriptor of the entry's lock: nobody else may go on while a process of ours still writes.
    `grows` are folders whose size is the progress, `total` about what they come to (None: unknown).
    """

    name: str
    log: Path
    lock: int
    grows: tuple[Path, ...] = ()
    total: int | None = None

    def run(self, argv: Sequence[str], *, progress: Progress, environment: Mapping[str, str] | None = None) -> None:
        """Run `argv` to its end. Raises InstallFailed; on any exception, ^C too, the command and its children are gone."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(f"\n# {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {self.name}: {' '.join(argv)}\n")
        start = self.log.stat().st_size
        began = time.monotonic()
        progress.step(self.name)
        hold = (self.lock,)
        with Guarded(argv, log=self.log, environment=environment, grace_s=_GRACE_S, hold=hold) as process:
            while (code := process.wait(_TICK_S)) is None:
                if self.grows:
                    progress.update(size_of(*self.grows), self.total)
        if code != 0:
            raise InstallFailed(self.name, f"{self._reason(start)} (status {code})", self.log)
        progress.done(time.monotonic() - began, size_of(*self.grows) if self.grows else None)

    def _reason(self, start: int) -> str:
        """The line of the tool's output that most likely says why: the last that names an error, else the last."""
        with self.log.open("rb") as source:
            source.seek(start)
            lines = [line.strip() for line in source.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        return (errors or lines or ["it said nothing"])[-1][:_REASON_CHARS]
