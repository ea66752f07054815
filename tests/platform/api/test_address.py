"""How many unknown keys one address may try, and whose address that is."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

import pytest
from litestar.types import Scope

from doubles.worker_process import FakeWorker
from gateway import StartGateway
from museway_platform.api.address import ADDRESSES_MAX, Addresses
from museway_platform.identity.keys import mint

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def scope(client: str | None, forwarded: str | None = None) -> Scope:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    made: dict[str, Any] = {"client": None if client is None else (client, 1), "headers": headers}
    return cast("Scope", made)


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # no proxy of ours: what it says is its own invention
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),  # the first is the client's invention
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "junk", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("2001:db8:1:2:aaaa::1", None, "2001:db8:1:2::/64"),
        (None, None, ""),
    ],
)
def test_whose_address(client: str | None, forwarded: str | None, address: str) -> None:
    assert Addresses(PROXIES, 10).of(scope(client, forwarded)) == address


def test_so_many_a_minute_and_as_many_at_once() -> None:
    clock = Clock()
    addresses = Addresses([], 3, clock=clock)
    for _ in range(3):
        assert addresses.wait_s("a") == 0
        addresses.tried_unknown("a")
    assert addresses.wait_s("a") == pytest.approx(20)  # pyright: ignore[reportUnknownMemberType]
    assert addresses.wait_s("b") == 0
    clock.now += 20
    assert addresses.wait_s("a") == 0
    addresses.tried_unknown("a")
    assert addresses.wait_s("a") > 0
    clock.now += 60
    for _ in range(3):
        assert addresses.wait_s("a") == 0
        addresses.tried_unknown("a")
    assert addresses.wait_s("a") > 0


def test_memory_is_bounded_and_who_tried_last_is_remembered() -> None:
    addresses = Addresses([], 1, clock=Clock())
    for number in range(ADDRESSES_MAX + 100):
        addresses.tried_unknown(str(number))
    assert addresses.wait_s(str(ADDRESSES_MAX + 99)) > 0
    assert addresses.wait_s("0") == 0


def test_known_keys_are_served_all_the_same(start_gateway: StartGateway, fake_worker: FakeWorker) -> None:
    gateway = start_gateway([fake_worker.url], unknown_keys_per_minute="3", trusted_proxies="127.0.0.1")
    customer = gateway.customer()
    with gateway.client(customer.secret) as client:
        assert client.get("/v1/balance").status_code == 200

        def try_key(secret: str, address: str) -> int:
            headers = {"authorization": f"Bearer {secret}", "x-forwarded-for": address}
            answer = client.get("/v1/balance", headers=headers)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) > 0
                assert answer.json()["error"]["code"] == "too_many_unknown_keys"
            return answer.status_code

        tried = [try_key(mint("live"), "198.51.100.1") for _ in range(6)]
        assert tried == [401, 401, 401, 429, 429, 429]
        assert try_key(customer.secret, "198.51.100.1") == 200
        assert try_key("mw_live_junk", "198.51.100.1") == 401, "its text says that nobody has it"
        assert try_key(mint("live"), "198.51.100.2") == 401
