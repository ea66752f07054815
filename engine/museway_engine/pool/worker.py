"""One worker as the pool sees it: whether it may get calls, how many it has, how loaded it is."""

from __future__ import annotations

import math
import time

from museway_engine.worker.client import Client
from museway_engine.worker.shapes import WorkerLoad

_OPENS_AT = 3
_PAUSE_S = 2.0
_PAUSE_S_MAX = 30.0
_TYPICAL_TOKENS = 512
_FULL_USAGE = 0.9
_LOAD_AGE_S_MAX = 3.0
RUNNING_DEFAULT = 32


class Breaker:
    """Opens after three failures in a row, for 2 s, then twice as long each time, at most 30 s; one success closes it.

    A worker that dies fails all its calls at once: that is one time, however many they are.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = _PAUSE_S
        self._until = 0.0

    def failed(self) -> None:
        if self.is_open:
            return
        self._failures += 1
        if self._failures >= _OPENS_AT:
            self._until = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _PAUSE_S_MAX)

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = _PAUSE_S
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """After the pause calls are let through again; the next failure opens it at once."""
        return self._until > 0.0 and self._until > time.monotonic()


class Worker:
    """Mutable, changed only between awaits."""

    def __init__(self, client: Client, model: str) -> None:
        self.client = client
        self.url = client.url
        self.model = model
        self.is_up = False
        self.is_met = False
        """What it serves is known, and is what the pool serves."""
        self.reason = "not asked yet"
        self.breaker = Breaker()
        self.in_flight_max = 0
        self.running_max = RUNNING_DEFAULT
        self.kv_tokens = 0
        self.has_priorities = False
        self.in_flight = 0
        self.tokens = 0
        self._usage = 0.0
        self._foreign_tokens = 0
        self._load_read = 0.0

    @property
    def is_ready(self) -> bool:
        return self.is_up and not self.breaker.is_open

    def gone(self, reason: str = "refused") -> None:
        """It gets no call until the monitor has met it again: it may come back as another."""
        self.is_up = self.is_met = False
        self.reason = reason

    @property
    def state(self) -> str:
        """In words, for people."""
        return "breaker open after failures" if self.is_up and self.breaker.is_open else self.reason

    @property
    def running_max(self) -> int:
        """How many requests the worker runs at once. `in_flight_max` is a little more than that, so that its queue is short
        and never empty; fairness needs the queue to be ours."""
        return self._running_max

    @running_max.setter
    def running_max(self, requests: int) -> None:
        self._running_max = requests
        self.in_flight_max = math.ceil(1.1 * requests)

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.in_flight_max

    @property
    def load(self) -> int:
        """Estimated tokens it has to work on: ours, and those of others as last reported."""
        is_fresh = time.monotonic() - self._load_read < _LOAD_AGE_S_MAX
        return self.tokens + (self._foreign_tokens if is_fresh else 0)

    @property
    def is_cramped(self) -> bool:
        """Its KV pool is nearly used up: a new prompt would evict others' prefixes."""
        return self._usage > _FULL_USAGE and time.monotonic() - self._load_read < _LOAD_AGE_S_MAX

    def take_load(self, load: WorkerLoad) -> None:
        """A report of `/v1/loads`: a snapshot that lags; what is ours in it is subtracted."""
        requests = load.num_running_reqs + load.num_waiting_reqs
        self._foreign_tokens = max(0, requests - self.in_flight) * _TYPICAL_TOKENS
        self._usage = load.token_usage
        self._load_read = time.monotonic()
        if load.max_running_requests:
            self.running_max = load.max_running_requests
        if load.max_total_num_tokens:
            self.kv_tokens = load.max_total_num_tokens
