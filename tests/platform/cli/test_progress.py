"""Steps as a pipe and as a terminal sees them."""

from __future__ import annotations

import io

from museway_platform.cli.progress import Steps, size


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_a_line_when_a_step_ends() -> None:
    stream = io.StringIO()
    steps = Steps(stream)
    steps.step("Packages")
    steps.update(10, 100)
    steps.done(146.2, 2_700_000_000)
    assert stream.getvalue() == "✓ Packages  146 s, 2.7 GB\n"


def test_a_terminal_sees_the_step_live() -> None:
    stream = _Terminal()
    steps = Steps(stream)
    steps.step("Model")
    steps.update(46_000_000, 93_000_000)
    assert "Model" in stream.getvalue() and "46 MB of about 93 MB" in stream.getvalue()
    steps.done(2.5, None)
    assert stream.getvalue().endswith("Model  2.5 s\n")


def test_a_step_that_failed_keeps_its_line() -> None:
    stream = _Terminal()
    steps = Steps(stream)
    steps.step("Model")
    steps.abandon()
    steps.abandon()
    assert stream.getvalue() == "  Model …\n"


def test_sizes() -> None:
    assert [size(count) for count in (999, 1_000, 93_400_000, 2_710_000_000)] == [
        "999 bytes",
        "1 kB",
        "93 MB",
        "2.7 GB",
    ]
