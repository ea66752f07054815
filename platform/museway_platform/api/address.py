"""Where a request comes from, and how many unknown keys one place may try before the store is no longer asked.

Only what costs a look-up counts: a key without a right checksum is refused from its text alone, and a key that this
process knows is served whatever else comes from its address.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence

from litestar.types import Scope

from museway_platform.api.connection import header

ADDRESSES_MAX = 50_000
_MINUTE_S = 60.0
_IPV6_NETWORK = 64
"""A home or a host has a whole /64: one address of it stands for all."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Addresses:
    """Of one process. `trusted`: proxies whose `x-forwarded-for` is believed; `per_minute`: unknown keys of one address,
    as many at once. Times are monotonic seconds."""

    def __init__(
        self, trusted: Sequence[Network], per_minute: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trusted = trusted
        self._per_minute = per_minute
        self._clock = clock
        self._paid_until: dict[str, float] = {}
        """By address: when what it tried is forgiven (GCRA's theoretical arrival time)."""

    def of(self, scope: Scope) -> str:
        """The client's address; of a chain of trusted proxies the last one before them. Empty where it has none."""
        client = scope["client"]
        address = client[0] if client else ""
        if self._trusted and self._is_trusted(address):
            for hop in reversed((header(scope, b"x-forwarded-for") or b"").decode("latin-1").split(",")):
                if not _is_address(hop.strip()):
                    break
                address = hop.strip()
                if not self._is_trusted(address):
                    break
        return _place(address)

    def wait_s(self, address: str) -> float:
        """How long this address has to wait before it may try another unknown key; 0 where it may now."""
        paid_until = self._paid_until.get(address, 0.0)
        return max(0.0, paid_until + _MINUTE_S / self._per_minute - _MINUTE_S - self._clock())

    def tried_unknown(self, address: str) -> None:
        """It tried a key that nobody has."""
        if not address:
            return
        now = self._clock()
        if len(self._paid_until) >= ADDRESSES_MAX and address not in self._paid_until:
            self._forget(now)
        before = self._paid_until.pop(address, 0.0)
        self._paid_until[address] = max(now, before) + _MINUTE_S / self._per_minute

    def _forget(self, now: float) -> None:
        """Those that are forgiven, or else the one that tried longest ago."""
        self._paid_until = {address: until for address, until in self._paid_until.items() if until > now}
        if len(self._paid_until) >= ADDRESSES_MAX:
            del self._paid_until[next(iter(self._paid_until))]

    def _is_trusted(self, address: str) -> bool:
        return _is_address(address) and any(ipaddress.ip_address(address) in network for network in self._trusted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _place(address: str) -> str:
    if ":" not in address or not _is_address(address):
        return address
    return str(ipaddress.ip_network(f"{address}/{_IPV6_NETWORK}", strict=False))
