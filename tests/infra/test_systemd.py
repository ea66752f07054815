"""The units start our own commands, as no one in particular, and let streams finish."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from museway_platform.cli import commands
from museway_platform.settings import Settings

UNITS = sorted((Path(__file__).resolve().parents[2] / "infra" / "systemd").glob("*.service"))


def _service(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
    parser.read_string(path.read_text())
    return parser["Service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
class TestUnit:
    def test_it_starts_a_command_that_exists(self, path: Path) -> None:
        program, command, *_ = _service(path)["ExecStart"].split()
        assert program.endswith("/museway") and command in commands()

    def test_it_is_not_root(self, path: Path) -> None:
        service = _service(path)
        assert service.get("DynamicUser") == "yes" or service.get("User", "root") != "root"
        assert service["NoNewPrivileges"] == "yes" and service["ProtectSystem"] == "strict"

    def test_it_comes_back(self, path: Path) -> None:
        assert _service(path)["Restart"] == "always"

    def test_its_secrets_are_elsewhere(self, path: Path) -> None:
        assert _service(path)["EnvironmentFile"].startswith("/etc/museway/")


def test_the_gateway_gets_longer_to_stop_than_its_streams() -> None:
    gateway = next(path for path in UNITS if path.stem == "museway-gateway")
    assert int(_service(gateway)["TimeoutStopSec"]) > Settings().drain_s


def test_there_is_one_per_role() -> None:
    assert [path.name for path in UNITS] == ["museway-gateway.service", "museway-worker@.service"]
