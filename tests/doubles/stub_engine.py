"""A worker whose processes are a stub: for what the runtime does with processes, not for SGLang's wire."""

from __future__ import annotations

import sys
from pathlib import Path

from museway_engine.runtime.flags import Command
from museway_engine.runtime.launch import Worker, free_port
from processes import marked

_SERVER = Path(__file__).with_name("stub_engine_server.py")


class Recorder:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.finished = 0

    def step(self, name: str) -> None:
        self.steps.append(name)

    def update(self, done_bytes: int | None, total: int | None) -> None: ...

    def done(self, seconds: float, size_bytes: int | None) -> None:
        assert seconds >= 0
        self.finished += 1


class StubEngine:
    """A `Worker` on the stub server, and the file that tells that server how to behave (its docstring has the words)."""

    def __init__(self, folder: Path, *, grace_s: float = 2.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._control = folder / "control"
        self._mark = f"STUB_ENGINE={folder}"
        self.says("200")
        port = free_port()
        command = Command((sys.executable, str(_SERVER), str(port), str(self._control)), {"STUB_ENGINE": str(folder)})
        self.worker = Worker(command, port=port, log=folder / "worker.log", grace_s=grace_s)

    def says(self, words: str) -> None:
        draft = self._control.with_suffix(".draft")
        draft.write_text(words)
        draft.replace(self._control)

    def processes(self) -> list[int]:
        """The living ones of its tree, the guard not among them."""
        return marked(self._mark)
