"""A canary key, prompt and card number go through every kind of request; none of them is in any log of the process."""

from __future__ import annotations

import json

from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway
from museway_platform.identity.keys import mint

PROMPT = "the canary sings at midnight"
CARD = "4242 4242 4242 4242"
URL = "/v1/chat/completions"


def test_canaries_are_found_in_no_log(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    stranger = mint("live")
    messages = [{"role": "user", "content": f"{PROMPT} {CARD}"}]
    body = {"model": "muse", "messages": messages, "max_tokens": 8, "user": CARD, "metadata": {"note": PROMPT}}
    with gateway.client(customer.secret) as client:
        assert client.post(URL, json=body).status_code == 200
        for extra in (
            {"mode": "thinking"},
            {"mode": "contemplating", "contemplating": {"agents": 2}},
            {"stream": True},
        ):
            assert client.post(URL, json=body | extra).status_code == 200
        assert client.post(URL, json=body | {PROMPT: CARD}).status_code == 400
        assert client.post(URL, content=PROMPT.encode(), headers={"content-type": "text/x"}).status_code == 415
        assert client.get(f"/v1/models/{PROMPT}").status_code == 404
        for behaviour in (Behaviour(status=500, message=PROMPT), Behaviour(malformed_after=1), Behaviour(drop_after=2)):
            fake_worker.script(behaviour, times=2)
            client.post(URL, json=body)
        assert client.get("/v1/models", headers={"authorization": f"Bearer {stranger}"}).status_code == 401
    gateway.stop()
    log = gateway.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["logger"] == "museway.request" and "status" in line]
    assert len(requests) >= 5
    assert {"request_id", "mode", "duration_ms", "organization", "key"} <= requests[0].keys()
    for canary in (PROMPT, CARD, CARD.replace(" ", ""), customer.secret, stranger, customer.secret[8:40]):
        assert canary not in log
