"""What a linter of Dockerfiles and compose files would say, for the rules that matter here."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from museway.cli.dispatch import main
from museway_billing.receipts import Signer
from museway_platform.settings import Settings

INFRA = Path(__file__).resolve().parents[2] / "infra"
DOCKERFILES = sorted((INFRA / "docker").glob("*.Dockerfile"))
_SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE)[A-Z_]*\s*[=:]\s*(?![$?\s])\S")
_PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*|postgres:\d+\.\d+[\w.-]*")


def _instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, argument), with continued lines joined and comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    assert all(len(part) == 2 for part in parts), parts
    return [(part[0], part[1]) for part in parts]


def _arguments(path: Path, instruction: str) -> list[str]:
    return [argument for name, argument in _instructions(path) if name == instruction]


def _compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose.yaml").read_text())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
class TestDockerfile:
    def test_its_base_is_pinned(self, path: Path) -> None:
        bases = [argument.split()[0] for argument in _arguments(path, "FROM")]
        assert bases and all(_PINNED.fullmatch(base) for base in bases), bases

    def test_it_ends_as_an_ordinary_user(self, path: Path) -> None:
        users = _arguments(path, "USER")
        assert users and users[-1] == "10001", "a number, so that Kubernetes can tell that it is not root"
        names = [name for name, _ in _instructions(path)]
        assert names.index("USER") < names.index("ENTRYPOINT")

    def test_it_holds_no_secret(self, path: Path) -> None:
        assert not _SECRET.search(path.read_text())

    def test_signals_reach_the_program(self, path: Path) -> None:
        commands = _arguments(path, "ENTRYPOINT") + _arguments(path, "CMD")
        assert commands and all(command.startswith("[") for command in commands), "exec form only"
        assert _arguments(path, "STOPSIGNAL") == ["SIGTERM"]

    def test_it_says_how_it_is(self, path: Path) -> None:
        assert _arguments(path, "HEALTHCHECK")

    def test_it_leaves_no_package_lists_and_caches(self, path: Path) -> None:
        for command in _arguments(path, "RUN"):
            if "apt-get install" in command:
                assert "--no-install-recommends" in command and "rm -rf /var/lib/apt/lists/*" in command
            if "pip install" in command:
                assert "--no-cache-dir" in command

    def test_it_copies_only_what_is_built(self, path: Path) -> None:
        """`COPY . .` would bring .git and whatever secret lies in the checkout."""
        assert not [argument for argument in _arguments(path, "COPY") if argument.split()[0] in {".", "./"}]
        ignore = path.with_name(path.name + ".dockerignore").read_text().splitlines()
        assert "*" in ignore, "an allow-list"


def test_there_is_one_per_role() -> None:
    assert [path.stem for path in DOCKERFILES] == ["gateway", "worker-cpu", "worker-gpu"]


def test_compose_pins_what_it_does_not_build() -> None:
    built = {service["image"] for service in _compose()["services"].values() if "build" in service}
    loose = {service["image"] for service in _compose()["services"].values()} - built
    assert loose and all(_PINNED.fullmatch(image) for image in loose), loose


def test_compose_builds_from_dockerfiles_that_exist() -> None:
    for service in _compose()["services"].values():
        if "build" in service:
            assert (INFRA.parent / service["build"]["dockerfile"]).is_file()


def test_compose_mounts_what_exists() -> None:
    for service in _compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in _compose()["volumes"] if not source.startswith(".") else (INFRA / source).exists(), source


def test_compose_opens_no_worker_and_nothing_to_the_world() -> None:
    services = _compose()["services"]
    assert "ports" not in services["worker"] and "ports" not in services["postgres"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_holds_no_secret() -> None:
    assert not _SECRET.search((INFRA / "compose.yaml").read_text())
    assert not re.search(r"^\w+_(KEYS|PASSWORD)=.", (INFRA / "secrets.example.env").read_text(), re.MULTILINE)


def test_the_gateway_accepts_the_settings_that_compose_gives_it() -> None:
    filled = {
        name: f"postgresql://m:{value}@postgres/m" if name == "MUSEWAY_DATABASE_URL" else secrets.token_hex(32)
        for name, value in re.findall(r"^(\w+)=(.*)$", (INFRA / "secrets.example.env").read_text(), re.MULTILINE)
    }
    for service in ("gateway", "migrate"):
        given = _compose()["services"][service].get("environment", {})
        settings = Settings.load(filled | given).with_secrets()
        assert settings.database_url is not None
        Signer([key.reveal() for key in settings.receipt_keys])


def _museway_commands() -> list[list[str]]:
    """Every `museway …` that the images and the compose file start."""
    run = [part.split() for path in DOCKERFILES for text in _arguments(path, "RUN") for part in text.split("&&")]
    started = [json.loads(text) for path in DOCKERFILES for text in _arguments(path, "CMD")]
    composed = [service["command"] for service in _compose()["services"].values() if "command" in service]
    return [words[1:] for words in run if words[0] == "museway"] + started + composed


@pytest.mark.parametrize("words", _museway_commands(), ids=" ".join)
def test_commands_that_are_started_exist_with_their_flags(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *(word for word in words if not word.startswith("-") and not word[0].isdigit() and word != "gpu"),
                "--help",
            ]
        )
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words if word.startswith("--"))


def test_the_gateway_gets_longer_to_stop_than_its_streams() -> None:
    from museway_platform.settings import Settings

    assert int(_compose()["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > Settings().drain_s
