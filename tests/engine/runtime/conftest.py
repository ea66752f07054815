from __future__ import annotations

from pathlib import Path

import pytest

from doubles.stub_engine import Recorder, StubEngine


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def stub(tmp_path: Path) -> StubEngine:
    return StubEngine(tmp_path / "stub")
