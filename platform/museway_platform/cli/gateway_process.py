"""The gateway as a child: granian with its workers, ended when we end, ready when it says so."""

from __future__ import annotations

import asyncio
import http.client
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from museway_engine.runtime.guarded import Guarded
from museway_platform.api.shapes import Readiness
from museway_platform.cli.prompt import Failure
from museway_platform.settings import Settings

_POLL_S = 0.1
_PROBE_TIMEOUT_S = 5.0
_TAIL_LINES = 8

_SETTLE_S = 5.0
"""After the drain time: what was broken off is settled and drained before the process is killed."""
_BUFFER_MIN, _IDLE_MS_MAX = 8192, 60_000
"""What the server allows for the two settings."""


def granian_command(*, host: str, port: int, processes: int, settings: Settings) -> list[str]:
    """How the gateway is served, in production and by `up` alike (the reasons for each flag: tests/bench/RESULTS.md)."""
    idle_ms = min(_IDLE_MS_MAX, max(1, int(settings.idle_timeout_s * 1000)))
    kill_s = int(settings.drain_s + _SETTLE_S)
    return [
        *(sys.executable, "-m", "granian", "museway_platform.cli.server_worker:create_app", "--factory"),
        *("--host", host, "--port", str(port), "--workers", str(processes)),
        *("--interface", "asgi", "--loop", "uvloop", "--http", "1"),
        *("--respawn-failed-workers", "--workers-kill-timeout", str(kill_s)),
        *("--http1-buffer-size", str(max(_BUFFER_MIN, settings.header_bytes_max))),
        *("--http1-header-read-timeout", str(idle_ms)),
        *("--no-access-log", "--log-level", "warning", "--no-ws"),
    ]


class GatewayProcess:
    """One granian on `host:port`, with `environment` as its only settings. Use from one event loop."""

    def __init__(self, *, host: str, port: int, processes: int, environment: Mapping[str, str], log: Path) -> None:
        self.host, self.port, self.log = host, port, log
        settings = Settings.load(environment)
        self._command = granian_command(host=host, port=port, processes=processes, settings=settings)
        self._stop_s = settings.drain_s + 2 * _SETTLE_S
        self._environment = environment
        self._process: Guarded | None = None
        self._began_at = 0
        self._was_ready = False

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host
        return f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._began_at = self.log.stat().st_size if self.log.exists() else 0
        self._process = Guarded(self._command, log=self.log, environment=self._environment, grace_s=self._stop_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        # While it starts, granian obeys no SIGTERM, and there is no stream that it could finish.
        await asyncio.to_thread(self._process.stop if self._was_ready else self._process.abandon)

    async def ready(self, timeout_s: float) -> None:
        """Wait for 200 on /readyz. Raises Failure where it ends or still lacks something after `timeout_s`."""
        missing = "it does not listen"
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._raise_if_ended()
                    status, missing = await asyncio.to_thread(readiness, self.url)
                    if status == 200:
                        self._was_ready = True
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise Failure(
                f"the gateway is not ready after {timeout_s:.0f} s: {missing}; its log is {self.log}"
            ) from error

    async def ended(self) -> None:
        """Return never, or raise Failure when the gateway ends by itself."""
        while True:
            self._raise_if_ended()
            await asyncio.sleep(_POLL_S * 5)

    def _raise_if_ended(self) -> None:
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            with self.log.open("rb") as log:
                log.seek(self._began_at)
                tail = log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
            raise Failure(f"the gateway ended with status {status}: {' | '.join(tail)} (its log is {self.log})")


def readiness(url: str) -> tuple[int, str]:
    """The status of /readyz (0: nobody answers) and what it says is missing."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()
    return answer.status, _missing(body)


def _missing(body: bytes) -> str:
    try:
        parts = msgspec.json.decode(body, type=Readiness).missing
    except msgspec.MsgspecError:
        return "it does not say what is missing"
    return ", ".join(f"{one.part} ({one.reason})" for one in parts)
