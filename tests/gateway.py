"""The gateway under test: the real process, a real PostgreSQL, and whatever worker the test gives it.

    def test_something(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
        gateway = start_gateway([fake_worker.url])
        gateway.client().post("/v1/chat/completions", …)

All traffic through `gateway.url` is held against OpenAI's schemas (`traffic.py`); what violates them fails the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
import pytest

from customers import Customer, customer
from museway_billing.ledger import store as ledger
from museway_billing.money import USD, NanoUsd
from museway_engine.runtime.launch import free_port
from museway_platform.cli.gateway_process import granian_command
from museway_platform.database.pool import Pool, open_pool
from museway_platform.identity.ids import new_id
from museway_platform.settings import Settings
from traffic import Wiretap

T = TypeVar("T")

READY_S = 60.0


class Gateway:
    """One gateway process on a database and a data directory of its own."""

    def __init__(self, dsn: str, engine_urls: Sequence[str], data_dir: Path, settings: Mapping[str, str]) -> None:
        self.dsn = settings.get("MUSEWAY_DATABASE_URL", dsn)
        self.data_dir = data_dir
        self.port = free_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "MUSEWAY_DATABASE_URL": dsn,
            "MUSEWAY_ENGINE_URLS": ",".join(engine_urls),
            "MUSEWAY_DATA_DIR": str(data_dir),
            "MUSEWAY_PORT": str(self.port),
            "MUSEWAY_SECRET_KEYS": "test-" + "0" * 40,
            "MUSEWAY_RECEIPT_KEYS": RECEIPT_KEY,
            **settings,
        }
        self.log = data_dir / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self._wiretap: Wiretap | None = None
        self._beside: list[Gateway] = []

    def beside(self) -> Gateway:
        """Another gateway on the same database and disk, with the same settings; it ends before this one."""
        settings = {name: value for name, value in self._environment.items() if name.startswith("MUSEWAY_")}
        other = Gateway(self.dsn, (), self.data_dir, settings)
        other._environment["MUSEWAY_PORT"] = str(other.port)
        other.log = self.data_dir / f"gateway-{other.port}.log"
        self._beside.append(other)
        return other.start()

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises AssertionError with the end of its log where it is not."""
        self.spawn()
        return self.until_ready()

    def until_ready(self) -> Self:
        """Wait until it is ready. Raises AssertionError with the end of its log where it is not in time."""
        deadline = time.monotonic() + READY_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway is not ready: {self.log.read_text()[-3000:]}")
            try:
                if httpx2.get(f"{self.direct_url}/readyz", timeout=2).status_code == 200:
                    return self
            except httpx2.HTTPError:
                pass
            time.sleep(0.03)  # tidy: allow sleep: polling a process of another program

    def spawn(self) -> None:
        """Start it without waiting."""
        with self.log.open("ab") as log:
            settings = Settings.load(self._environment)
            command = granian_command(host="127.0.0.1", port=self.port, processes=settings.processes, settings=settings)
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        if self._wiretap is None:
            self._wiretap = self._stack.enter_context(Wiretap(self.port))

    @property
    def direct_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Through the wiretap."""
        assert self._wiretap is not None
        return self._wiretap.url

    @property
    def violations(self) -> list[str]:
        beside = [violation for other in self._beside for violation in other.violations]
        return beside if self._wiretap is None else [*beside, *self._wiretap.checked.violations]

    def client(self, secret: str, **options: Any) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {secret}"},
            timeout=options.pop("timeout", 60),
            **options,
        )

    def use_database(self, dsn: str) -> None:
        """From the next start on, and for commands, another database."""
        self.dsn = self._environment["MUSEWAY_DATABASE_URL"] = dsn

    def kill(self) -> None:
        """`kill -9` of the whole process group, at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """The whole process group does nothing until `resume`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to stop, without waiting."""
        assert self._process is not None
        self._process.terminate()

    def stop(self, timeout_s: float = 40.0) -> int:
        """SIGTERM, drained; the exit status. Killed, and an error, where it does not end."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"the gateway did not stop: {self.log.read_text()[-2000:]}") from None

    def close(self) -> None:
        for other in self._beside:
            other.close()
        self.stop()
        self._stack.close()

    # -- what the store says ----------------------------------------------------------------------------------------

    def in_database(self, work: Callable[[Pool], Awaitable[T]]) -> T:
        """Run `work` with a pool on the gateway's database, in an event loop of its own."""

        async def run() -> T:
            async with open_pool(self.dsn) as pool:
                return await work(pool)

        return asyncio.run(run())

    def customer(self, *, usd: int = 10, nano_usd: int | None = None, plan: str = "unlimited") -> Customer:
        """A new organization with a project, a key and credit."""

        async def make(pool: Pool) -> Customer:
            made = await customer(pool, plan=plan)
            async with pool.acquire() as connection, connection.transaction():
                await ledger.grant(
                    connection,
                    organization=made.organization.id,
                    amount=NanoUsd(usd * USD if nano_usd is None else nano_usd),
                    txn_id=new_id("txn"),
                )
            return made

        return self.in_database(make)

    def museway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The operator's command beside this gateway."""
        command = [sys.executable, "-m", "museway_platform", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)

    def export(self) -> list[dict[str, Any]]:
        """`museway usage export`, parsed."""
        done = self.museway("usage", "export")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def drained_export(self, calls: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """The export, once it has this many lines (the drain is up to 1 s behind)."""
        deadline = time.monotonic() + timeout_s
        while True:
            lines = self.export()
            if len(lines) >= calls or time.monotonic() > deadline:
                return lines
            time.sleep(0.2)  # tidy: allow sleep: polling a process of another program

    @staticmethod
    def until(holds: Callable[[], bool], *, within_s: float) -> None:
        """Wait until it holds. Raises AssertionError where it does not in time."""
        deadline = time.monotonic() + within_s
        while not _holds(holds):
            assert time.monotonic() < deadline, f"not within {within_s} s"
            time.sleep(0.03)  # tidy: allow sleep: polling a process of another program

    def balance(self, secret: str) -> dict[str, Any]:
        body: dict[str, Any] = self.client(secret).get("/v1/balance").json()
        return body


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except httpx2.HTTPError:
        return False


StartGateway = Callable[..., Gateway]

RECEIPT_KEY = secrets.token_hex(32)


@pytest.fixture
def start_gateway(database: str) -> Iterator[StartGateway]:
    """Starts gateways; each is stopped, and its traffic judged, when the test ends."""
    started: list[Gateway] = []
    folders: list[Path] = []

    def start(engine_urls: Sequence[str], *, ready: bool = True, **settings: str) -> Gateway:
        folder = Path(tempfile.mkdtemp(prefix="museway-gateway-"))
        folders.append(folder)
        gateway = Gateway(database, engine_urls, folder, {f"MUSEWAY_{k.upper()}": v for k, v in settings.items()})
        started.append(gateway)
        if ready:
            gateway.start()
        else:
            gateway.spawn()
        return gateway

    yield start
    for gateway in started:
        gateway.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    violations = [violation for gateway in started for violation in gateway.violations]
    assert not violations, "\n".join(violations[:20])
