"""What `/metrics` says. Labels come from closed sets (route, status, mode, class, worker); never an organization or a key.

Counters of the hot path are plain ints in dictionaries, turned into Prometheus families when somebody scrapes: a `labels()`
call per event costs as much as encoding the event. Gauges are read at the scrape from the parts that know them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_Key = tuple[str | int, ...]

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class WorkerGauge(Struct, frozen=True):
    url: str
    ready: bool
    in_flight: int


class Gauges(Struct, frozen=True, kw_only=True):
    """What is true at the scrape."""

    holds_open: int
    open_slots: int
    running_requests: int
    pending_records: int
    drain_lag_s: float
    draining: bool
    workers: tuple[WorkerGauge, ...]
    clock_skew_s: Mapping[str, float | None] = {}
    """How far the clock of each store is ahead of this process's; None where it was not asked yet."""


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        running = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*BUCKETS_S, float("inf")), self.counts, strict=True):
            running += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), running))
        return found


class Metrics(Collector):
    """Counters of one process. Everything but `render` is cheap and for the event loop; `render` is for a thread."""

    def __init__(self) -> None:
        self._requests: defaultdict[_Key, int] = defaultdict(int)
        self._seconds: defaultdict[_Key, _Histogram] = defaultdict(_Histogram)
        self._first_token: defaultdict[_Key, _Histogram] = defaultdict(_Histogram)
        self._tokens: defaultdict[_Key, int] = defaultdict(int)
        self._refusals: defaultdict[_Key, int] = defaultdict(int)
        self._gauges: Callable[[], Gauges] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, gauges: Callable[[], Gauges]) -> None:
        """Where the gauges are read from at a scrape."""
        self._gauges = gauges

    def request(self, *, route: str, status: int, mode: str, seconds: float, first_token_s: float | None) -> None:
        self._requests[route, status, mode] += 1
        self._seconds[route, mode].observe(seconds)
        if first_token_s is not None:
            self._first_token[(mode,)].observe(first_token_s)

    def tokens(self, *, mode: str, input_: int, cached_input: int, reasoning: int, output: int) -> None:
        """Tokens as billed, by class."""
        self._tokens["input", mode] += input_
        self._tokens["cached_input", mode] += cached_input
        self._tokens["reasoning", mode] += reasoning
        self._tokens["output", mode] += output

    def refused(self, metric: str) -> None:
        """A request that a limit, a cap or the credit refused (`museway_platform.limits.limiter.Metric`)."""
        self._refusals[(metric,)] += 1

    def render(self) -> bytes:
        """The text of one scrape."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families of one scrape, from copies: the event loop goes on counting meanwhile. All are there from the start,
        if without samples, so that this is the list of what there is."""
        yield _counter("museway_requests", "Requests answered.", ("route", "status", "mode"), self._requests.copy())
        yield _counter("museway_tokens", "Tokens as billed.", ("class", "mode"), self._tokens.copy())
        yield _counter("museway_limiter_refusals", "Requests refused by a limit.", ("metric",), self._refusals.copy())
        yield _histogram("museway_request_seconds", "Whole requests.", ("route", "mode"), self._seconds.copy())
        yield _histogram(
            "museway_ttft_seconds", "Time to the first byte of a stream.", ("mode",), self._first_token.copy()
        )
        yield from _gauge_families(None if self._gauges is None else self._gauges())


_GAUGES: Mapping[str, tuple[str, Callable[[Gauges], float]]] = {
    "museway_running_requests": ("Requests under way.", lambda now: now.running_requests),
    "museway_holds_open": ("Holds that are neither settled nor released.", lambda now: now.holds_open),
    "museway_open_slots": ("Engine calls under way or unsettled.", lambda now: now.open_slots),
    "museway_journal_pending_records": ("Durable records not in PostgreSQL yet.", lambda now: now.pending_records),
    "museway_drain_lag_seconds": ("For how long records have waited for PostgreSQL.", lambda now: now.drain_lag_s),
    "museway_draining": ("1 while the process is stopping.", lambda now: now.draining),
}
_WORKER_GAUGES: Mapping[str, tuple[str, Callable[[WorkerGauge], float]]] = {
    "museway_worker_ready": ("1 where the worker may serve.", lambda worker: worker.ready),
    "museway_worker_inflight": ("Calls under way at the worker.", lambda worker: worker.in_flight),
}


def _gauge_families(now: Gauges | None) -> Iterator[Metric]:
    for name, (help_, read) in _GAUGES.items():
        family = GaugeMetricFamily(name, help_)
        if now is not None:
            family.add_metric((), float(read(now)))
        yield family
    for name, (help_, of) in _WORKER_GAUGES.items():
        family = GaugeMetricFamily(name, help_, labels=("worker",))
        for worker in () if now is None else now.workers:
            family.add_metric((worker.url,), float(of(worker)))
        yield family
    skews = GaugeMetricFamily("museway_clock_skew_seconds", "A store's clock less this process's.", labels=("store",))
    for store, seconds in () if now is None else now.clock_skew_s.items():
        if seconds is not None:
            skews.add_metric((store,), seconds)
    yield skews


def _counter(name: str, help_: str, labels: tuple[str, ...], values: Mapping[_Key, int]) -> Metric:
    family = CounterMetricFamily(name, help_, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in key], value)
    return family


def _histogram(name: str, help_: str, labels: tuple[str, ...], values: Mapping[_Key, _Histogram]) -> Metric:
    family = HistogramMetricFamily(name, help_, labels=labels)
    for key, histogram in values.items():
        family.add_metric([str(part) for part in key], histogram.buckets(), histogram.total)
    return family
