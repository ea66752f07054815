"""`museway worker`: a real SGLang in the foreground, gone when it is told to stop."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from urllib.error import URLError

import pytest

from museway_engine.runtime.launch import free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def test_it_serves_and_ends(real_worker: str) -> None:
    """`real_worker` is only asked for so that the engine is installed once, by whoever comes first."""
    assert real_worker
    port = free_port()
    command = [sys.executable, "-m", "museway_platform", "worker", "--json", "--port", str(port)]
    environment = {**os.environ, "MUSEWAY_MODEL": "other"}
    with subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            assert select.select([worker.stdout], [], [], 300)[0], "not ready in time"
            assert json.loads(worker.stdout.readline()) == {"url": f"http://127.0.0.1:{port}"}
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10) as answer:
                assert [model["id"] for model in json.load(answer)["data"]] == ["other"]
        finally:
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate(timeout=60)
    assert worker.returncode == 130 and b"Traceback" not in said
    with pytest.raises(URLError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
