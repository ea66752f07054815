"""`museway credits`: grants that expire, corrections with a reason, a history that explains itself."""

from __future__ import annotations

import json

from doubles.worker_process import Behaviour, FakeWorker
from gateway import StartGateway
from museway_billing.money import USD

from .conftest import Museway

BODY = {"model": "muse", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 20}


def test_grants_in_the_order_in_which_they_are_drawn(museway: Museway) -> None:
    org = museway("orgs create Acme --json").json["id"]
    museway(f"credits grant --org {org} --usd 1 --id txn_paid --paid")
    museway(f"credits grant --org {org} --usd 2 --id txn_late --expires 2027-12-31")
    museway(f"credits grant --org {org} --usd 3 --id txn_soon --expires 2027-01-31")
    museway(f"credits grant --org {org} --usd 4 --id txn_first --priority -1")
    rows = museway(f"credits list --org {org} --json").rows
    assert [row["id"] for row in rows] == ["txn_first", "txn_soon", "txn_late", "txn_paid"]
    assert [row["left_nano_usd"] // USD for row in rows] == [4, 3, 2, 1]
    assert museway(f"credits grant --org {org} --usd 1 --priority 99999").status == 2


def test_an_adjustment_needs_a_reason_and_an_amount_that_is_there(museway: Museway) -> None:
    org = museway("orgs create Acme --json").json["id"]
    assert museway(f"credits adjust --org {org} --usd 1").status == 2
    assert museway(f"credits adjust --org {org} --reason why").status == 2
    assert museway(f"credits adjust --org {org} --usd 0 --reason why").status == 1
    told = museway(f"credits adjust --org {org} --record use_none --reason why")
    assert (told.status, "nothing is charged" in told.err) == (1, True)
    assert museway(f"credits adjust --org {org} --usd 2.50 --id txn_1 --json --reason", "our outage").json[
        "adjusted_now"
    ]
    again = museway(f"credits adjust --org {org} --usd 2.50 --id txn_1 --json --reason", "our outage")
    assert again.json["adjusted_now"] is False
    assert museway(f"credits adjust --org {org} --usd 2.51 --id txn_1 --reason", "our outage").status == 1
    assert museway(f"credits adjust --org {org} --usd=-0.50 --reason", "too much").status == 0
    history = museway(f"credits history --org {org} --json").rows
    assert [(row["kind"], row["amount_nano_usd"], row["reason"]) for row in history] == [
        ("adjustment", 2_500_000_000, "our outage"),
        ("adjustment", -500_000_000, "too much"),
    ]
    assert museway(f"credits show --org {org} --json").json["posted_nano_usd"] == 2 * USD
    assert museway("reconcile").status == 0


def test_a_request_given_back_reaches_the_caller_in_a_second(
    start_gateway: StartGateway, fake_worker: FakeWorker
) -> None:
    gateway = start_gateway([fake_worker.url])
    customer = gateway.customer()
    before = gateway.balance(customer.secret)["available_nano_usd"]
    fake_worker.script(Behaviour(tokens=10))
    with gateway.client(customer.secret) as client:
        request = client.post("/v1/chat/completions", json=BODY).headers["x-request-id"]
    (record,) = gateway.drained_export(1)
    half = record["amount_nano_usd"] // 2
    assert half > 0
    words = ("credits", "adjust", "--org", customer.organization.id, "--request", request, "--reason", "it was wrong")
    done = gateway.museway(*words, "--usd", f"0.{half:09}", "--json")
    assert json.loads(done.stdout)["amount_nano_usd"] == half, done.stderr
    gateway.until(
        lambda: gateway.balance(customer.secret)["available_nano_usd"] == before - record["amount_nano_usd"] + half,
        within_s=2,
    )
    (record,) = gateway.export()
    assert record["credited_nano_usd"] == half
    assert gateway.museway(*words).returncode == 0, "the rest of it"
    gateway.until(lambda: gateway.balance(customer.secret)["available_nano_usd"] == before, within_s=2)
    assert gateway.museway(*words).returncode == 1
    assert gateway.museway("reconcile").returncode == 0
