"""`/metrics`: what a scrape shows is what was counted, under names and labels that never grow with customers."""

from __future__ import annotations

import threading

from prometheus_client.parser import text_string_to_metric_families

from museway_platform.api.metrics import BUCKETS_S, Gauges, Metrics, WorkerGauge


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """By name and label values, in the order of the label names."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_and_tokens_are_counted() -> None:
    metrics = Metrics()
    for status in (200, 200, 429):
        metrics.request(route="/v1/chat/completions", status=status, mode="instant", seconds=0.3, first_token_s=0.02)
    metrics.tokens(mode="thinking", input_=5, cached_input=4, reasoning=3, output=2)
    metrics.tokens(mode="thinking", input_=5, cached_input=0, reasoning=0, output=0)
    metrics.refused("credit")
    seen = samples(metrics)
    assert seen["museway_requests_total", "instant", "/v1/chat/completions", "200"] == 2
    assert seen["museway_requests_total", "instant", "/v1/chat/completions", "429"] == 1
    assert [seen["museway_tokens_total", c, "thinking"] for c in ("input", "cached_input", "reasoning", "output")] == [
        10,
        4,
        3,
        2,
    ]
    assert seen["museway_limiter_refusals_total", "credit"] == 1


def test_histograms_add_up() -> None:
    metrics = Metrics()
    times = [0.001, BUCKETS_S[0], 0.3, 1000.0]
    for seconds in times:
        metrics.request(route="r", status=200, mode="instant", seconds=seconds, first_token_s=None)
    seen = samples(metrics)
    assert seen["museway_request_seconds_bucket", str(BUCKETS_S[0]), "instant", "r"] == 2
    assert seen["museway_request_seconds_bucket", "0.5", "instant", "r"] == 3
    assert seen["museway_request_seconds_bucket", "+Inf", "instant", "r"] == 4
    assert seen["museway_request_seconds_count", "instant", "r"] == 4
    assert seen["museway_request_seconds_sum", "instant", "r"] == sum(times)
    assert not any(name[0].startswith("museway_ttft_seconds_") for name in seen)


def test_gauges_are_read_at_the_scrape() -> None:
    metrics = Metrics()
    holds = [1]
    metrics.watch(
        lambda: Gauges(
            holds_open=holds[0],
            open_slots=2,
            running_requests=3,
            pending_records=4,
            drain_lag_s=0.5,
            draining=False,
            workers=(WorkerGauge("http://w:1", True, 7),),
            clock_skew_s={"postgresql": -0.25, "redis": None},
        )
    )
    assert samples(metrics)["museway_holds_open",] == 1
    holds[0] = 9
    seen = samples(metrics)
    assert seen["museway_holds_open",] == 9
    assert seen["museway_drain_lag_seconds",] == 0.5
    assert seen["museway_worker_ready", "http://w:1"] == 1
    assert seen["museway_worker_inflight", "http://w:1"] == 7
    assert seen["museway_clock_skew_seconds", "postgresql"] == -0.25
    assert ("museway_clock_skew_seconds", "redis") not in seen, "unknown is not zero"


def test_all_families_are_there_before_anything_happened() -> None:
    assert {family.name for family in Metrics().collect()} >= {
        "museway_requests",
        "museway_request_seconds",
        "museway_ttft_seconds",
        "museway_tokens",
        "museway_limiter_refusals",
        "museway_holds_open",
        "museway_journal_pending_records",
        "museway_drain_lag_seconds",
        "museway_worker_inflight",
    }


def test_the_process_itself_is_measured() -> None:
    assert samples(Metrics())["process_resident_memory_bytes",] > 0


def test_counting_goes_on_while_a_thread_scrapes() -> None:
    metrics = Metrics()
    broken: list[BaseException] = []
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            try:
                metrics.render()
            except RuntimeError as error:
                broken.append(error)
                return

    thread = threading.Thread(target=scrape)
    thread.start()
    for n in range(20_000):
        metrics.request(route=f"r{n % 500}", status=200 + n % 50, mode="instant", seconds=0.1, first_token_s=0.1)
    stop.set()
    thread.join()
    assert broken == []
