"""A full disk under the kept answers: they are given all the same, and their keys are refused, never run a second time."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.worker_process import FakeWorker
from gateway import Gateway, StartGateway
from invariants.ledgerbook import compare

pytestmark = pytest.mark.faults

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 20}


@pytest.fixture
def gateway(start_gateway: StartGateway, fake_worker: FakeWorker) -> Iterator[Gateway]:
    """Its answers lie on a file system of 1 MiB, where not one file of them fits."""
    gateway = start_gateway([fake_worker.url])
    gateway.stop()
    folder = gateway.data_dir / "answers" / "0"
    if not mounted(folder):
        # tidy: allow skip: nobody else may make a file system; test_kept.py does without one
        pytest.skip("only root may mount a file system to fill it")
    gateway.start()
    yield gateway
    gateway.stop()
    subprocess.run(["umount", "-l", folder], check=True)


def mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    return os.geteuid() == 0 and not subprocess.run(command, check=False, capture_output=True).returncode


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_given_and_never_run_twice(gateway: Gateway, fake_worker: FakeWorker, stream: bool) -> None:
    customer = gateway.customer()
    request = {**BODY, "stream": stream}
    with gateway.client(customer.secret) as client:
        first = client.post("/v1/chat/completions", json=request, headers={"idempotency-key": "k"})
        assert first.status_code == 200
        again = client.post("/v1/chat/completions", json=request, headers={"idempotency-key": "k"})
        assert (again.status_code, again.json()["error"]["code"]) == (409, "answer_not_kept")
        assert again.headers["x-should-retry"] == "false"
    (line,) = compare(fake_worker, gateway)[1].values()
    assert line["state"] == "complete"
