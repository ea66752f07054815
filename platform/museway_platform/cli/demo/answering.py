"""One answer as it appears: agents at work, then the text, token by token."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from museway import AgentProgress, ModeChosen, PhaseStarted
from museway_platform.cli.demo.questions import Question

_BAR = 24
_SHOWN_CHARS = 120


class Answering:
    """One answer on its way: agents above, then the text. A context manager: leaving ends the live part."""

    def __init__(self, console: Console, question: Question) -> None:
        self._console = console
        self._question = question
        self._agents: dict[tuple[str, int], AgentProgress] = {}
        self._agreement = ""
        self._live: Live | None = None
        self._part = ""

    def __enter__(self) -> Self:
        text = self._question.text
        shown = text if len(text) <= _SHOWN_CHARS else f"({len(text):,} characters) … {text[-_SHOWN_CHARS:].strip()}"
        self._console.print(f"\n{self._question.mode.value}", style="bold cyan")
        self._console.print(f"> {shown}", style="dim", markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()
        if self._part:
            self._console.print()

    def reasoning(self, text: str) -> None:
        self._write("thinks", text, style="dim italic")

    def output(self, text: str) -> None:
        self._write("answers", text, style="")

    def chosen(self, event: ModeChosen) -> None:
        self._console.print(f"chose {event.mode}: {event.rule}", style="dim", markup=False)

    def phase(self, event: PhaseStarted) -> None:
        self._end_live()
        if event.phase == "synthesis":
            self._console.print(f"composes from {event.drafts} drafts", style="dim")

    def agent(self, event: AgentProgress) -> None:
        """A live line per agent; through a pipe one line each time an agent's state changes."""
        before = self._agents.get((event.phase, event.index))
        self._agents[event.phase, event.index] = event
        self._agreement = f"{event.agree} of {event.finished} that finished agree" if event.agree else ""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=False)
                self._live.start()
            self._live.update(self._panel(), refresh=True)
        elif before is None or before.state != event.state:
            self._console.print(f"  agent {event.index} ({event.phase}): {event.state}, {event.tokens} tokens")

    def _panel(self) -> Text:
        panel = Text()
        for _, seen in sorted(self._agents.items()):
            ceiling = self._question.agent_max_tokens or max(seen.tokens, 1)
            bar = "█" * min(_BAR, seen.tokens * _BAR // ceiling)
            panel.append(f"  agent {seen.index} {seen.phase:<7} ")
            panel.append(f"{bar:<{_BAR}}", style="green" if seen.state == "done" else "cyan")
            panel.append(f" {seen.tokens:>3} tokens  {seen.state}\n")
        panel.append(f"  {self._agreement}", style="dim")
        return panel

    def _write(self, part: str, text: str, *, style: str) -> None:
        self._end_live()
        if self._part != part:
            if self._part:
                self._console.print()
            self._part = part
        self._console.print(Text(text, style=style), end="", soft_wrap=True)
        self._console.file.flush()

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
