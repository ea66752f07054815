"""What the demo shows: tokens as they come, agents at work, tables at the end. Plain text where nobody watches live."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from museway_platform.cli.demo.answering import Answering
from museway_platform.cli.demo.ask import Asked
from museway_platform.cli.demo.questions import Question
from museway_platform.cli.money import dollars

_PIPE_WIDTH = 110
_ROOMY_WIDTH = 100


class Screen:
    """Standard output, for one demo."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = _PIPE_WIDTH

    @property
    def live(self) -> bool:
        return self._console.is_terminal

    def heading(self, text: str) -> None:
        self._console.print()
        self._console.rule(Text(text, style="bold"), align="left", characters="─")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def answering(self, question: Question) -> Answering:
        """The place where one answer appears."""
        return Answering(self._console, question)

    def asked(self, rows: Sequence[Asked]) -> None:
        """The table of all modes."""
        roomy = self._console.width >= _ROOMY_WIDTH
        table = Table(box=None, padding=(0, 2 if roomy else 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("mode", no_wrap=True, vertical="bottom")
        for title in ("agents", "input", "cached input", "reasoning", "output", "price", "first token", "tokens/s"):
            # The table fits 80 columns, with two lines for the titles.
            shown = title if roomy else title.replace(" ", "\n")
            table.add_column(shown, justify="right", no_wrap=True, vertical="bottom")
        for row in rows:
            ran = row.mode if row.ran == row.mode else f"{row.mode}→{row.ran}"
            counts = (row.agents, row.input, row.cached_input, row.reasoning, row.output)
            table.add_row(
                ran,
                *(f"{count:,}" for count in counts),
                dollars(row.cost_nano_usd),
                f"{row.first_token_s:.2f} s",
                f"{row.tokens_per_s:.1f}",
            )
        self._console.print(table)
