"""I7: with a key a request runs on for the grace when its client is gone; what nobody fetches is not billed."""

from __future__ import annotations

import threading

import httpx2
import pytest

from customers import Customer
from doubles.worker_process import Behaviour, FakeWorker, Options
from gateway import Gateway, StartGateway
from invariants.keyed import body, event_ids, post, read_events, streaming
from invariants.ledgerbook import calls, compare


def begin(gateway: Gateway, customer: Customer, events: int = 6) -> list[str]:
    """Read so many events of a stream, then hang up."""
    with gateway.client(customer.secret) as client, streaming(client, "k", body(stream=True, max_tokens=300)) as lines:
        return read_events(lines, events)


def test_comes_back_in_time(start_gateway: StartGateway) -> None:
    with FakeWorker(Options(delay_ms=5)) as worker:
        worker.script(Behaviour(tokens=200))
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        begun = begin(gateway, customer)
        with gateway.client(customer.secret) as client:
            rest = post(client, "k", body(stream=True, max_tokens=300), last_event_id=event_ids(begun[-1])[0])
            whole = post(client, "k", body(stream=True, max_tokens=300))
        assert "".join(begun) + rest.text == whole.text
        (entry,), (line,) = calls(worker).values(), compare(worker, gateway)[1].values()
        assert (line["state"], line["unbilled"]) == ("complete", 0)
        assert entry.aborted is None


def test_does_not_come_back(start_gateway: StartGateway) -> None:
    """Aborted at the worker when the grace is over; what was made meanwhile is not billed; the key is free."""
    with FakeWorker(Options(delay_ms=5)) as worker:
        worker.script(Behaviour(tokens=290))
        gateway = start_gateway([worker.url], resume_grace_s="0.5")
        customer = gateway.customer()
        begun = begin(gateway, customer)
        (entry,) = calls(worker).values()
        assert entry.aborted is not None
        _, lines = compare(worker, gateway)
        (line,) = lines.values()
        texts = sum('"content":"' in event and '"content":""' not in event for event in begun)
        assert texts <= line["output"] <= texts + 12, "what left for the client, and no more"
        assert line["unbilled"] > 30, "it ran on meanwhile"
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0
        with gateway.client(customer.secret) as client:
            request = body(stream=True, max_tokens=300)
            late = post(client, "k", request, last_event_id=event_ids(begun[-1])[0])
            assert (late.status_code, late.json()["error"]["code"]) == (409, "stream_restarted")
            assert "idempotent-replayed" not in post(client, "k", request).headers


@pytest.mark.parametrize("mode", ["instant", "thinking"])
def test_an_answer_that_nobody_fetched(start_gateway: StartGateway, mode: str) -> None:
    """It was finished within the grace: neither billed nor kept."""
    with FakeWorker(Options(delay_ms=5)) as worker:
        gateway = start_gateway([worker.url], resume_grace_s="1")
        customer = gateway.customer()
        with gateway.client(customer.secret, timeout=0.1) as client, pytest.raises(httpx2.TimeoutException):
            post(client, "k", body(mode=mode))
        worker.wait_idle()
        _, lines = compare(worker, gateway)
        assert sum(line["output"] + line["reasoning"] for line in lines.values()) == 0
        assert sum(line["unbilled"] for line in lines.values()) > 0
        with gateway.client(customer.secret) as client:
            assert "idempotent-replayed" not in post(client, "k", body(mode=mode)).headers


def test_comes_back_for_a_whole_answer(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    fake_worker.script(Behaviour(tokens=30, first_delay_ms=400))
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    with gateway.client(customer.secret, timeout=0.1) as client, pytest.raises(httpx2.TimeoutException):
        post(client, "k", body())
    with gateway.client(customer.secret) as client:
        answer = post(client, "k", body())
    assert (answer.status_code, answer.headers["idempotent-replayed"]) == (200, "true")
    (line,) = compare(fake_worker, gateway)[1].values()
    assert (line["state"], line["unbilled"]) == ("complete", 0)


def test_cancels_by_id(start_gateway: StartGateway) -> None:
    with FakeWorker(Options(delay_ms=20)) as worker:
        worker.script(Behaviour(tokens=290))
        gateway = start_gateway([worker.url])
        customer, stranger = gateway.customer(), gateway.customer()
        begun = begin(gateway, customer)
        request_id = event_ids(begun[0])[0].partition(":")[0]
        with gateway.client(stranger.secret) as client:
            assert client.post(f"/v1/requests/{request_id}/cancel").status_code == 404
        with gateway.client(customer.secret) as client:
            cancelled = client.post(f"/v1/requests/{request_id}/cancel")
            assert cancelled.json() == {"request_id": request_id, "status": "cancelled"}
            (entry,) = calls(worker).values()
            assert entry.aborted is not None
            assert entry.completion < 100
            Gateway.until(lambda: client.post(f"/v1/requests/{request_id}/cancel").status_code == 404, within_s=5)
        compare(worker, gateway)
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0


def test_sigterm_does_not_wait_for_who_is_gone(start_gateway: StartGateway) -> None:
    with FakeWorker(Options(delay_ms=20)) as worker:
        worker.script(Behaviour(tokens=290))
        gateway = start_gateway([worker.url], resume_grace_s="60")
        customer = gateway.customer()
        begin(gateway, customer)
        stopped = threading.Event()
        threading.Thread(target=lambda: (gateway.stop(), stopped.set())).start()
        assert stopped.wait(15)
        gateway.start()
        compare(worker, gateway)
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0
