"""The demo's table fits the smallest terminal that people use."""

from __future__ import annotations

import pytest

from museway_platform.cli.demo.ask import Asked
from museway_platform.cli.demo.screen import Screen

_ROWS = [
    Asked(
        mode=mode,
        ran=ran,
        agents=4,
        input=1_267,
        cached_input=1_289,
        reasoning=146,
        output=12,
        cost_nano_usd=1_236_010,
        first_token_s=12.73,
        total_s=10.0,
    )
    for mode, ran in (("contemplating", "contemplating"), ("auto", "instant"))
]


@pytest.mark.parametrize("columns", [80, 99, 100, 200])
def test_every_cell_is_whole(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    Screen().asked(_ROWS)
    out = capsys.readouterr().out
    assert "…" not in out
    for cell in (
        "contemplating",
        "auto→instant",
        "1,267",
        "1,289",
        "146",
        "12",
        "$0.00123601",
        "12.73 s",
        "15.8",
        "tokens/s",
    ):
        assert cell in out
