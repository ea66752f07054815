"""`museway` as a test types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from museway.cli.dispatch import main


class Ran(Struct, frozen=True):
    """What a command left: its status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.json["data"]


Museway = Callable[..., Ran]


@pytest.fixture
def museway(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Museway:
    """Runs a command line in this process, on a fresh database. Words with spaces are given as further arguments."""
    monkeypatch.setenv("MUSEWAY_DATABASE_URL", database)
    monkeypatch.setenv("MUSEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(line: str, *more: str) -> Ran:
        capsys.readouterr()
        status = main([*line.split(), *more])
        printed = capsys.readouterr()
        return Ran(status, printed.out, printed.err)

    return run
