"""`museway up` with a scripted worker: what it prints, that it works, and that nothing of it is ever left."""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import museway
from doubles.worker_process import FakeWorker
from museway_engine.runtime.launch import free_port

from .processes import Program, data_folder

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("wiretapped")]


@pytest.fixture
def folder() -> Iterator[Path]:
    with data_folder() as made:
        yield made


@pytest.fixture
def settings(fake_worker: FakeWorker) -> dict[str, str]:
    return {"MUSEWAY_ENGINE_URLS": fake_worker.url, "MUSEWAY_PORT": str(free_port())}


def _up(settings: dict[str, str], folder: Path) -> Program:
    return Program("up", "--json", settings=settings, folder=folder)


def _ask(ready: dict[str, str]) -> museway.Reply:
    with museway.Museway(api_key=ready["key"], base_url=ready["base_url"]) as client:
        return client.generate("Say something.", max_tokens=16)


def test_it_answers_and_ends_on_an_interrupt(settings: dict[str, str], folder: Path) -> None:
    with _up(settings, folder) as up:
        ready = up.ready()
        assert set(ready) == {"base_url", "portal_url", "key"}
        reply = _ask(ready)
        assert reply.text and reply.cost is not None and reply.cost.nano_usd > 0
        status, said = up.end(signal.SIGINT)
        assert status == 0 and "Traceback" not in said
        assert not up.left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_background_job_of_a_script_obeys(settings: dict[str, str], folder: Path, number: signal.Signals) -> None:
    """A shell without job control starts those with SIGINT ignored, and that is inherited."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        up = _up(settings, folder)
        up.__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        up.ready()
        assert up.end(number)[0] == 0
        assert not up.left()
    finally:
        up.__exit__(None, None, None)


def test_no_secret_is_on_a_command_line(settings: dict[str, str], folder: Path) -> None:
    """Everybody on the machine can read those; environments only their owner can."""
    with _up(settings, folder) as up:
        up.ready()
        secrets = [line.split('"')[1] for line in (folder / "secrets.toml").read_text().splitlines() if "=" in line]
        assert len(secrets) == 2
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(secret.encode() in line for secret in secrets for line in lines)


def test_a_restart_keeps_the_key_and_the_money(settings: dict[str, str], folder: Path) -> None:
    seen: list[tuple[str, str, int]] = []
    for _ in range(2):
        with _up(settings, folder) as up:
            ready = up.ready()
            _ask(ready)
            with museway.Museway(api_key=ready["key"], base_url=ready["base_url"]) as client:
                balance = client.balance()
            seen.append((ready["key"], balance.organization, balance.available_nano_usd))
            assert up.end(signal.SIGTERM)[0] == 0
    (first_key, first_owner, first_money), (second_key, second_owner, second_money) = seen
    assert first_key != second_key and first_owner == second_owner
    assert 0 < second_money < first_money < 1_000 * 10**9, (
        "the trial credit came once, and both answers were paid from it"
    )


def test_kill_9_leaves_nothing_and_the_next_start_works(settings: dict[str, str], folder: Path) -> None:
    with _up(settings, folder) as up:
        _ask(up.ready())
        up.end(signal.SIGKILL)
        up.wait_gone(15.0)
    with _up(settings, folder) as up:
        _ask(up.ready())


@pytest.mark.parametrize("seed", range(5))
def test_an_interrupt_while_it_starts_leaves_nothing(settings: dict[str, str], folder: Path, seed: int) -> None:
    """At a random moment of the start, which takes some two seconds."""
    with _up(settings, folder) as up:
        chance = random.Random(seed)
        up.runs_for(chance.uniform(0.0, 2.0))
        begun = folder.exists()
        status, said = up.end(chance.choice((signal.SIGINT, signal.SIGTERM)))
        assert status in (0, 130, -signal.SIGINT, -signal.SIGTERM), said
        assert "Traceback" not in said or not begun, "before our first line it is Python that answers"
        assert not up.left()
    with _up(settings, folder) as up:
        up.ready()


def test_a_second_one_on_the_directory_is_refused(settings: dict[str, str], folder: Path) -> None:
    with _up(settings, folder) as first:
        first.ready()
        with _up(settings | {"MUSEWAY_PORT": str(free_port())}, folder) as second:
            _, said = second.process.communicate(timeout=30)
            assert second.process.returncode == 1 and f"process {first.process.pid}" in said.decode()
            second.folder = Path("/nonexistent")  # what is left there is the first one's


def test_a_taken_port_is_named_before_anything_starts(settings: dict[str, str], folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", int(settings["MUSEWAY_PORT"])))
        listener.listen()
        with _up(settings, folder) as up:
            _, said = up.process.communicate(timeout=30)
            assert up.process.returncode == 1
            assert f"127.0.0.1:{settings['MUSEWAY_PORT']}" in said.decode() and said.decode().count("\n") == 1
            assert not folder.exists()


def test_commands_beside_it_use_its_database(settings: dict[str, str], folder: Path) -> None:
    with _up(settings, folder) as up:
        ready = up.ready()
        _ask(ready)
        with Program("orgs", "list", "--json", settings={}, folder=folder) as beside:
            out, _ = beside.process.communicate(timeout=30)
            assert b'"Default"' in out
            beside.folder = Path("/nonexistent")
        assert _ask(ready).text, "the database is still there"
