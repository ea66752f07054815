"""I7: the same Idempotency-Key is answered once and billed once, whatever happens in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from doubles.worker_process import Behaviour, FakeWorker, Match, Options
from gateway import Gateway, StartGateway
from invariants.keyed import CHAT, body, event_ids, post, read_events, streaming
from invariants.ledgerbook import compare, money

MODES = ("instant", "thinking", "contemplating", "auto")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("mode", MODES)
def test_the_same_answer_and_one_bill(
    start_gateway: StartGateway, fake_worker: FakeWorker, mode: str, stream: bool
) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    request = body(mode=mode, stream=stream, max_tokens=60)
    before = gateway.balance(customer.secret)["available_nano_usd"]
    with gateway.client(customer.secret) as client:
        first = post(client, "same", request)
        again = post(client, "same", request)
    assert first.status_code == again.status_code == 200
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.content == again.content
    assert first.headers["x-request-id"] == again.headers["x-request-id"]
    if not stream:
        assert int(first.headers["x-museway-cost-nano-usd"]) > 0
        assert again.headers["x-museway-cost-nano-usd"] == "0"
    _, lines = compare(fake_worker, gateway)
    assert len({line["request_id"] for line in lines.values()}) == 1
    assert all(line["state"] == "complete" for line in lines.values())
    assert before - gateway.balance(customer.secret)["available_nano_usd"] == money(lines) > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_64_at_once(start_gateway: StartGateway, stream: bool) -> None:
    with FakeWorker(Options(delay_ms=2)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        with gateway.client(customer.secret, limits=httpx2.Limits(max_connections=64)) as client:

            def one(_: int) -> httpx2.Response:
                return post(client, "race", body(stream=stream))

            with ThreadPoolExecutor(64) as pool:
                answers = list(pool.map(one, range(64)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
        _, lines = compare(worker, gateway)
        assert len(lines) == 1
        assert gateway.balance(customer.secret)["held_nano_usd"] == 0


def test_another_body_is_refused(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    fake_worker.script(Behaviour(tokens=39, delay_ms=20))
    with gateway.client(customer.secret) as client, gateway.client(customer.secret) as other:
        with streaming(client, "k", body(stream=True)) as lines:
            next(lines)
            assert_reused(post(other, "k", body(stream=True, max_tokens=41)))
            list(lines)
        assert_reused(post(other, "k", body(max_tokens=41)))
        spelled_otherwise = (
            b'{"max_tokens":40, "stream": true,"messages":[{"content":"Why?","role":"user"}],"model":"muse"}'
        )
        headers = {"idempotency-key": "k", "content-type": "application/json"}
        assert client.post(CHAT, content=spelled_otherwise, headers=headers).status_code == 200
    assert len(compare(fake_worker, gateway)[1]) == 1


def assert_reused(answer: httpx2.Response) -> None:
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"


def test_keys_of_projects_are_apart(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    answers: list[httpx2.Response] = []
    for customer in (gateway.customer(), gateway.customer()):
        with gateway.client(customer.secret) as client:
            answers.append(post(client, "k", body()))
    assert all("idempotent-replayed" not in answer.headers for answer in answers)
    assert len(compare(fake_worker, gateway)[1]) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "caf\u00e9", "tab\there"])
def test_a_key_that_is_none(start_gateway: StartGateway, fake_worker: FakeWorker, key: str) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        answer = client.post(CHAT, json=body(), headers={b"idempotency-key": key.encode("latin-1")})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")
        assert post(client, "x" * 255, body()).status_code == 200


def test_what_was_refused_is_not_kept(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    """Neither before anything was sent, nor after where all was given back: the key is free for the retry."""
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer(nano_usd=1)
    with gateway.client(customer.secret) as client:
        assert post(client, "k", body(temperature=9)).status_code == 400
        assert post(client, "k", body()).status_code == 402
        assert gateway.museway("credits", "grant", "--org", customer.organization.id, "--usd", "5").returncode == 0
        Gateway.until(lambda: gateway.balance(customer.secret)["available_nano_usd"] > 0, within_s=5)
        fake_worker.script(Behaviour(tokens=30, drop_after=5), Match(route="chat"), times=1)
        broken = post(client, "k", body(stream=True))
        assert "engine_lost" in broken.text
        whole = post(client, "k", body(stream=True))
        assert whole.text.endswith("data: [DONE]\n\n")
        assert "error" not in whole.text
        assert "idempotent-replayed" not in whole.headers
        late = post(client, "k", body(stream=True), last_event_id=event_ids(broken.text)[2])
        assert (late.status_code, late.json()["error"]["code"]) == (409, "stream_restarted")


def test_attach_in_the_middle(start_gateway: StartGateway) -> None:
    """From the first event, and live from there; the answer goes on when the first reader leaves."""
    with FakeWorker(Options(delay_ms=15)) as worker:
        gateway = start_gateway([worker.url])
        customer = gateway.customer()
        request = body(stream=True)
        with gateway.client(customer.secret) as first, gateway.client(customer.secret) as second:
            with streaming(first, "k", request) as lines:
                begun = read_events(lines, 5)
                with streaming(second, "k", request) as others:
                    assert read_events(others, 5) == begun
                    first_half = [*begun, *read_events(lines, 3)]
                    rest = read_events(others, 3)
                    assert [*begun, *rest] == first_half
                    assert next(others)
            whole = post(second, "k", request)
        assert whole.text.startswith("".join(first_half))
        _, records = compare(worker, gateway)
        assert len(records) == 1


def test_resume_after_every_event(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    request = body(stream=True, max_tokens=12)
    with gateway.client(customer.secret) as client:
        whole = post(client, "k", request).text
        ids = event_ids(whole)
        assert len(ids) == whole.count("data: ")
        for event_id in ids:
            rest = post(client, "k", request, last_event_id=event_id).text
            before = whole[: whole.index(f"id: {event_id}\n")]
            at = whole[len(before) :].partition("\n\n")
            assert before + at[0] + at[1] + rest == whole
        for wrong in ("x", "req_", f"{ids[0]}x", ids[0].replace(":1", ":999"), "req_1:-1"):
            assert post(client, "k", request, last_event_id=wrong).status_code in (400, 409), wrong
    assert len(compare(fake_worker, gateway)[1]) == 1


def test_without_a_key_nothing_changes(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        answers = [client.post(CHAT, json=body(stream=True), headers={"last-event-id": "x"}) for _ in range(2)]
    assert all(answer.status_code == 200 and not event_ids(answer.text) for answer in answers)
    assert len(compare(fake_worker, gateway)[1]) == 2


@pytest.mark.faults
class TestKill9:
    def test_in_the_middle(self, start_gateway: StartGateway) -> None:
        """The interrupted attempt is given back, the retry is a new answer, and no old text is joined to it."""
        with FakeWorker(Options(delay_ms=5)) as worker:
            gateway = start_gateway([worker.url])
            customer = gateway.customer()
            before = gateway.balance(customer.secret)["available_nano_usd"]
            request = body(stream=True, max_tokens=100)
            worker.script(Behaviour(tokens=90))
            with gateway.client(customer.secret) as client, streaming(client, "k", request) as lines:
                begun = read_events(lines, 20)
                gateway.kill()
            worker.wait_idle()
            gateway.start()
            with gateway.client(customer.secret) as client:
                spliced = post(client, "k", request, last_event_id=event_ids(begun[-1])[0])
                assert (spliced.status_code, spliced.json()["error"]["code"]) == (409, "stream_restarted")
                again = post(client, "k", request)
            assert "idempotent-replayed" not in again.headers
            assert event_ids(again.text)[0].partition(":")[0] != event_ids(begun[0])[0].partition(":")[0]
            lines_ = gateway.drained_export(2)
            first, second = sorted(lines_, key=lambda line: line["created"])
            assert first["state"] == "interrupted"
            assert 0 < first["amount_nano_usd"] == first["credited_nano_usd"]
            assert (second["state"], second["credited_nano_usd"]) == ("complete", 0)
            assert before - gateway.balance(customer.secret)["available_nano_usd"] == second["amount_nano_usd"]
            done = gateway.museway("reconcile", "--json")
            assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
    def test_after_the_end(self, start_gateway: StartGateway, fake_worker: FakeWorker, stream: bool) -> None:
        """What was billed can be had again."""
        gateway = start_gateway([fake_worker.url])
        customer = gateway.customer()
        with gateway.client(customer.secret) as client:
            first = post(client, "k", body(stream=stream))
        gateway.kill()
        gateway.start()
        with gateway.client(customer.secret) as client:
            again = post(client, "k", body(stream=stream))
            assert_reused(post(client, "k", body(stream=stream, max_tokens=7)))
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == first.content
        assert len(compare(fake_worker, gateway)[1]) == 1


def test_the_secret_was_rotated(start_gateway: StartGateway, fake_worker: FakeWorker, database: str) -> None:
    """What was kept under the older secret is still found and read; what is new goes under the newest."""
    old, new = "o" * 40, "n" * 40
    gateway = start_gateway([fake_worker.url], secret_keys=old)
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        first = post(client, "k", body())
    gateway.stop()
    rotated = Gateway(database, [fake_worker.url], gateway.data_dir, {"MUSEWAY_SECRET_KEYS": f"{new},{old}"})
    try:
        rotated.start()
        with rotated.client(customer.secret) as client:
            again = post(client, "k", body())
            assert_reused(post(client, "k", body(max_tokens=3)))
    finally:
        rotated.close()
    assert again.content == first.content
    assert len(compare(fake_worker, rotated)[1]) == 1


def test_the_official_client(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    with openai.OpenAI(api_key=customer.secret, base_url=f"{gateway.url}/v1", max_retries=0) as client:

        def text() -> str:
            chunks = client.chat.completions.create(
                model="muse",
                messages=[{"role": "user", "content": "Why?"}],
                max_tokens=20,
                stream=True,
                extra_headers={"Idempotency-Key": "k"},
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

        assert text() == text() != ""
    assert len(compare(fake_worker, gateway)[1]) == 1
