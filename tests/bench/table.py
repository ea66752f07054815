"""The measured medians as a Markdown table, between markers in RESULTS.md."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from msgspec import Struct

_RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
_BEGIN, _END = "<!-- bench:begin -->", "<!-- bench:end -->"
_SKELETON, _NGINX, _GATEWAY = "skeleton, granian", "nginx", "gateway"

_ROWS = (
    ("CPU per JSON request, µs", "json us", "≤ 220"),
    ("CPU per paced chunk, µs", "paced us", "≤ 42"),
    ("CPU per chunk when saturated, µs", "saturated us", "≤ 12"),
    ("added time to first token at half load, p50, µs", "added first token p50 us", "≤ 1,000"),
    ("added time to first token at half load, p99, µs", "added first token p99 us", "≤ 5,000"),
    ("that load, streams begun a second", "half load streams/s", ""),
    ("age of a paced token at the client, p50, µs", "paced age p50 us", ""),
    ("age of a paced token at the client, p99, µs", "paced age p99 us", ""),
    ("JSON requests a second", "json per s", ""),
    ("tokens a second when saturated", "saturated per s", ""),
    ("memory idle, MiB", "idle MiB", "≤ 150"),
    ("memory after load, MiB", "loaded MiB", "flat"),
    ("PostgreSQL's CPU per JSON request, µs", "json database us", ""),
)
_COMPARED = {"json us", "paced us", "saturated us", "json per s", "saturated per s", "idle MiB"}
"""Where a ratio says something; that of two differences near zero does not."""


class Report(Struct, kw_only=True):
    """Medians by (subject, measure) over the rounds, and errors over all of them."""

    subjects: list[str]
    medians: dict[tuple[str, str], float]
    errors: dict[str, int]
    seconds: float


def write_report(report: Report, *, rounds: int, keep: bool) -> None:
    """Print it; put it between RESULTS.md's markers unless asked to keep that."""
    text = "\n".join([_heading(report, rounds), "", *_table(report)])
    print(text)
    if keep:
        return
    before, _, rest = _RESULTS.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    _RESULTS.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


def _heading(report: Report, rounds: int) -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("granian", "uvicorn", "litestar", "httptools", "uvloop")
    )
    cores, load_average = os.cpu_count() or 1, os.getloadavg()[1]
    busy = "; **other work shared the cores: read CPU and ratios, not times**" if load_average > cores + 1 else ""
    return (
        f"{when}; {_processor()}, {cores} cores, load average of the last 5 minutes {load_average:.1f}{busy}; "
        f"Python {platform.python_version()}, {packages}; medians of {rounds} interleaved rounds of {report.seconds:g} s a load."
    )


def _table(report: Report) -> list[str]:
    with_gateway = _GATEWAY in report.subjects
    ratios = [_SKELETON, _NGINX] if with_gateway and _NGINX in report.subjects else [_SKELETON] if with_gateway else []
    head = ["", *report.subjects, *(f"gateway ÷ {name.partition(',')[0]}" for name in ratios), "goal"]
    lines = [_line(head), _line(["---"] * len(head))]
    for title, measure, goal in _ROWS:
        values = [report.medians.get((name, measure)) for name in report.subjects]
        own = report.medians.get((_GATEWAY, measure))
        compared = [_ratio(own, report.medians.get((name, measure))) if measure in _COMPARED else "" for name in ratios]
        lines.append(_line([title, *map(_number, values), *compared, goal]))
    errors = [str(report.errors.get(name, 0)) for name in report.subjects]
    lines.append(_line(["failed requests", *errors, *("" for _ in ratios), "0"]))
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _ratio(own: float | None, other: float | None) -> str:
    return f"{own / other:.2f}" if own is not None and other else "–"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
