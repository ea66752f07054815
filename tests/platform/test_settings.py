"""Settings: where they come from, what they refuse and in which words, and what they hide."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from museway_platform.settings import Secret, Settings, SettingsError

LONG = "0123456789abcdef" * 2


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load({f"MUSEWAY_{name}": value for name, value in environment.items()})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.load({})
    assert (settings.port, settings.model, settings.database_url) == (8400, "muse", None)


def test_environment_over_file_over_default(tmp_path: Path) -> None:
    (tmp_path / "museway.toml").write_text(
        'port = 1000\nhost = "0.0.0.0"\nengine_urls = ["http://a:1", "http://b:2"]\n'
    )
    settings = Settings.load({"MUSEWAY_PORT": "2000"})
    assert (settings.port, settings.host, settings.model) == (2000, "0.0.0.0", "muse")
    assert settings.engine_urls == ("http://a:1", "http://b:2")


def test_the_file_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("port = 3000\n")
    assert Settings.load({"MUSEWAY_CONFIG": str(tmp_path / "other.toml")}).port == 3000
    assert refusal(CONFIG="none.toml") == "MUSEWAY_CONFIG names none.toml, which does not exist"


def test_lists_are_separated_by_commas() -> None:
    assert Settings.load({"MUSEWAY_ENGINE_URLS": " http://a:1 ,http://b:2,"}).engine_urls == (
        "http://a:1",
        "http://b:2",
    )


def test_empty_is_not_set() -> None:
    assert Settings.load({"MUSEWAY_DATABASE_URL": " ", "MUSEWAY_PORT": ""}).database_url is None


def test_what_belongs_to_others_is_left_alone() -> None:
    Settings.load({"MUSEWAY_API_KEY": "x", "MUSEWAY_BASE_URL": "y", "MUSEWAY_TEST_ENGINE_URL": "z", "PATH": "/bin"})


def test_unknown_names_are_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert refusal(PROT="1") == "MUSEWAY_PROT is not a setting; did you mean MUSEWAY_PORT?"
    assert refusal(DATABASE="x") == "MUSEWAY_DATABASE is not a setting; did you mean MUSEWAY_DATABASE_URL?"
    assert refusal(port="1") == "MUSEWAY_port is not a setting; did you mean MUSEWAY_PORT?"
    assert refusal(XYZZY="1") == "MUSEWAY_XYZZY is not a setting"
    (tmp_path / "museway.toml").write_text("prot = 1\n")
    assert refusal() == "museway.toml: prot is not a setting; did you mean port?"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "abc", "MUSEWAY_PORT: expected `int`, got `str`"),
        ("PORT", "65536", "MUSEWAY_PORT: expected `int` <= 65535"),
        ("PROCESSES", "0", "MUSEWAY_PROCESSES: expected `int` >= 1"),
        ("RESUME_GRACE_S", "-1", "MUSEWAY_RESUME_GRACE_S: expected `float` >= 0.0"),
        ("ENGINE_URLS", "localhost:30000", "MUSEWAY_ENGINE_URLS: 'localhost:30000' is not http://host:port"),
        ("DATABASE_URL", "mysql://x", "MUSEWAY_DATABASE_URL: not a postgresql:// URL"),
        ("SECRET_KEYS", "short", "MUSEWAY_SECRET_KEYS: a key has fewer than 32 characters"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,x", "MUSEWAY_TRUSTED_PROXIES: 'x' is neither an address nor a network"),
        ("ADMIN_BIND", "9000", "MUSEWAY_ADMIN_BIND: '9000' is not host:port"),
        ("PUBLIC_URL", "api.example.org", "MUSEWAY_PUBLIC_URL: 'api.example.org' is not an http(s) URL"),
        ("MODELS", "none.toml", "MUSEWAY_MODELS: none.toml does not exist"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, message: str) -> None:
    assert refusal(**{name: value}) == message


def test_a_wrong_value_in_the_file_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "museway.toml").write_text('port = "high"\n')
    assert refusal() == "museway.toml: port: expected `int`, got `str`"
    (tmp_path / "museway.toml").write_text("port = \n")
    assert refusal().startswith("museway.toml cannot be read: ")


def test_settings_that_need_each_other() -> None:
    assert refusal(PROCESSES="2").startswith("MUSEWAY_PROCESSES: more than one process needs MUSEWAY_REDIS_URL")
    assert refusal(OIDC_ISSUER="https://id.example.org").startswith("MUSEWAY_OIDC_ISSUER, ")


def test_secrets_do_not_show_themselves() -> None:
    settings = Settings.load({"MUSEWAY_SECRET_KEYS": LONG, "MUSEWAY_DATABASE_URL": "postgresql://u:passw0rd@h/d"})
    for text in (repr(settings), str(settings), f"{settings.secret_keys[0]}", repr([*settings.secret_keys])):
        assert LONG not in text
        assert "passw0rd" not in text
    assert settings.secret_keys[0].reveal() == LONG
    assert settings.secret_keys == (Secret(LONG),)
    assert Secret(LONG) != LONG


def test_with_a_database_url_secrets_are_required(tmp_path: Path) -> None:
    settings = Settings.load({"MUSEWAY_DATABASE_URL": "postgresql://h/d", "MUSEWAY_DATA_DIR": str(tmp_path / "data")})
    with pytest.raises(SettingsError, match="MUSEWAY_SECRET_KEYS and MUSEWAY_RECEIPT_KEYS must be set"):
        settings.with_secrets()
    assert not (tmp_path / "data").exists()


def test_with_an_embedded_database_secrets_are_made_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    settings = Settings.load({"MUSEWAY_DATA_DIR": str(data_dir)})
    assert not data_dir.exists()
    made = settings.with_secrets()
    assert stat.S_IMODE((data_dir / "secrets.toml").stat().st_mode) == 0o600
    assert len(made.secret_keys[0].reveal()) >= 32
    assert made.secret_keys != made.receipt_keys
    assert settings.with_secrets() == made
    assert [file.name for file in data_dir.iterdir()] == ["secrets.toml"]
    own = Settings.load({"MUSEWAY_DATA_DIR": str(data_dir), "MUSEWAY_SECRET_KEYS": LONG}).with_secrets()
    assert (own.secret_keys, own.receipt_keys) == ((Secret(LONG),), made.receipt_keys)


def test_processes_that_make_secrets_at_once_agree(tmp_path: Path) -> None:
    code = "from museway_platform.settings import Settings; print(sorted(Settings.load().environment().items()))"
    environment = {"MUSEWAY_DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert said[0].count(b"SECRET_KEYS") == 1
    assert said == said[:1] * 4


def test_a_child_that_gets_the_environment_has_the_same_settings(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "MUSEWAY_DATA_DIR": str(tmp_path / "data"),
            "MUSEWAY_ENGINE_URLS": "http://a:1,http://b:2",
            "MUSEWAY_RESUME_GRACE_S": "2.5",
            "MUSEWAY_SMTP_URL": "smtp://u:p@h",
        }
    )
    assert Settings.load(settings.environment()) == settings.with_secrets()


def test_a_stack_beside_has_its_own_database_and_secrets(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "MUSEWAY_DATABASE_URL": "postgresql://h/d",
            "MUSEWAY_SECRET_KEYS": LONG,
            "MUSEWAY_RECEIPT_KEYS": LONG,
            "MUSEWAY_MODEL": "other",
        }
    )
    beside = settings.beside(data_dir=tmp_path / "demo", port=1)
    assert (beside.database_url, beside.model, beside.port) == (None, "other", 1)
    assert LONG not in beside.environment().values()
