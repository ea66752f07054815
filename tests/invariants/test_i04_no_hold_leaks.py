"""I4: a hold ends settled, released or recovered; after a crash within one recovery interval on the same disk."""

from __future__ import annotations

import threading
import time

import pytest

from doubles.worker_process import Behaviour, FakeWorker, Options
from gateway import Gateway, StartGateway
from invariants.ledgerbook import calls

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Tell me."}], "stream": True, "max_tokens": 300}


def stream_until_cut(gateway: Gateway, secret: str, chunks: list[str], begun: threading.Event) -> None:
    with gateway.client(secret) as client, client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        try:
            for line in answer.iter_lines():
                chunks.append(line)
                if len(chunks) > 12:
                    begun.set()
        except Exception:  # noqa: BLE001  the cut connection shows in many ways, all of them expected
            begun.set()


@pytest.mark.faults
def test_kill_9_in_the_middle_of_streams(start_gateway: StartGateway) -> None:
    """The next start bills what the slots say: at least what was delivered, at most what was made."""
    with FakeWorker(Options(delay_ms=5)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        worker.script(Behaviour(tokens=290))
        delivered: list[list[str]] = [[] for _ in range(4)]
        begun = [threading.Event() for _ in delivered]
        threads = [
            threading.Thread(target=stream_until_cut, args=(gateway, customer.secret, chunks, event))
            for chunks, event in zip(delivered, begun, strict=True)
        ]
        for thread in threads:
            thread.start()
        assert all(event.wait(20) for event in begun)
        gateway.kill()
        for thread in threads:
            thread.join(20)
        book = calls(worker)
        gateway.start()
        lines = {line["rid"]: line for line in gateway.drained_export(len(book))}
        assert lines.keys() == book.keys()
        for rid, line in lines.items():
            assert line["state"] == "interrupted"
            assert line["unbilled"] is None
            assert 0 < line["output"] <= book[rid].completion
        text = sum(1 for chunks in delivered for line in chunks if '"content":"' in line and '"content":""' not in line)
        assert text <= sum(line["output"] for line in lines.values())
        balance = gateway.balance(customer.secret)
        assert balance["held_nano_usd"] == 0
        done = gateway.museway("reconcile", "--json")
        assert done.returncode == 0, done.stdout + done.stderr


def test_sigterm_lets_running_streams_finish(start_gateway: StartGateway) -> None:
    with FakeWorker(Options(delay_ms=10)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        worker.script(Behaviour(tokens=150))
        chunks: list[str] = []
        begun = threading.Event()
        thread = threading.Thread(target=stream_until_cut, args=(gateway, customer.secret, chunks, begun))
        thread.start()
        assert begun.wait(20)
        began = time.monotonic()
        assert gateway.stop() == 0
        thread.join(20)
        assert chunks[-2:] == ["data: [DONE]", ""] or chunks[-1] == "data: [DONE]"
        assert time.monotonic() - began > 0.2
        (entry,) = calls(worker).values()
        gateway.start()
        (line,) = gateway.drained_export(1)
        assert line["state"] == "complete"
        assert line["output"] == entry.completion
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0


@pytest.mark.faults
def test_what_cant_be_recovered_now_does_not_end_who_serves(
    start_gateway: StartGateway, fake_worker: FakeWorker
) -> None:
    """A disk without room, say; here a folder whose lock can't be opened. The next round tries again."""
    gateway = start_gateway([fake_worker.url], recovery_interval_s="0.2")
    customer = gateway.customer()
    (gateway.data_dir / "journal" / "gateway-1-0" / "lock").mkdir(parents=True)
    gateway.until(lambda: gateway.log.read_text().count("can't be recovered now") >= 2, within_s=10)
    with gateway.client(customer.secret) as client:
        assert client.post("/v1/chat/completions", json=BODY | {"stream": False}).status_code == 200
    assert gateway.stop() == 0
