"""`museway demo` as a person runs it: its own SGLang, a real model, nothing left."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from traffic import Checked

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]


def test_the_whole_road(real_worker: str, wiretapped: Checked) -> None:
    """`real_worker` is only asked for so that the engine is installed once, by whoever comes first."""
    assert real_worker
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "museway_platform", "demo"],
        cwd=Path("/"),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert wiretapped.bodies >= 6, "what it shows passed OpenAI's schemas"
    assert "The capital of France is Paris" in run.stdout
    for mode in ("instant", "thinking", "contemplating", "auto"):
        assert re.search(rf"^{mode}(→\w+)? +\d+ +[\d,]+ .* \$0\.\d+ +\d+\.\d+ s +\d+\.\d$", run.stdout, re.MULTILINE)
    cached, whole = re.search(r"([\d,]+) of ([\d,]+) input tokens came from the cache", run.stdout).groups()  # type: ignore[union-attr]
    assert int(whole.replace(",", "")) >= 1_000
    assert int(whole.replace(",", "")) - int(cached.replace(",", "")) <= 1, "the last token is never cached"
    assert "\nreconciled\n" in run.stdout
    for step in ("PostgreSQL", "Starting SGLang", "Loading the model's weights", "Gateway"):
        assert re.search(rf"✓ {step}  \d", run.stderr), run.stderr
    print(f"{time.monotonic() - began:.0f} s")
