"""What installing and importing the SDK costs others."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

SDK = Path(__file__).parents[2] / "sdk"


def python(program: str) -> str:
    command = [sys.executable, "-X", "importtime", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def loaded(program: str) -> set[str]:
    return {line.rsplit("|", 1)[1].strip() for line in python(program).splitlines() if "|" in line}


def test_two_dependencies() -> None:
    project = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]
    assert sorted(name.split(">")[0] for name in project["dependencies"]) == ["httpx2", "msgspec"]


def test_importing_loads_no_transport() -> None:
    """60 ms that a script which only wants a type, or `museway --help`, does not pay."""
    modules = loaded("import museway")
    assert "museway.client" in modules
    assert not {"httpx2", "anyio", "ssl", "cryptography", "asyncio"} & modules


def test_importing_never_loads_the_server() -> None:
    modules = loaded("import museway, museway.cli; museway.Museway('mw_k', base_url='http://127.0.0.1:1')")
    strangers = {"museway_platform", "museway_engine", "museway_billing", "litestar", "pydantic", "rich"}
    assert not {module.split(".")[0] for module in modules} & strangers
    assert "httpx2" in modules


def test_importing_is_quick() -> None:
    """Measured 70 ms of CPU on two busy cores; what is compared is work, not a stopwatch: the number of modules."""
    assert len(loaded("import museway")) < 200
