"""Every query of the dashboard and of the alerts names metrics and labels that are really there."""

from __future__ import annotations

import json
import re
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from museway_platform.api.metrics import Gauges, Metrics, WorkerGauge

INFRA = Path(__file__).resolve().parents[2] / "infra"
RECORDED = Path(__file__).with_name("sglang_metrics.txt")
_NAME = re.compile(r"\b(museway_[a-z_]+|sglang:[a-z_]+|process_[a-z_]+|up)\b(?:\{(?P<matchers>[^}]*)\})?")
_GROUPED = re.compile(r"\bby \(([^)]*)\)")
_SUFFIXES = {
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
    "counter": ("",),
    "gauge": ("",),
}
_OF_PROMETHEUS = {"job", "instance", "le"}


@cache
def _ours() -> dict[str, set[str]]:
    """Sample names of our own /metrics with their labels, after one request of each kind."""
    metrics = Metrics()
    worker = WorkerGauge(url="http://worker:30000", ready=True, in_flight=1)
    metrics.watch(
        lambda: Gauges(
            open_slots=0,
            holds_open=0,
            running_requests=0,
            pending_records=0,
            drain_lag_s=0.0,
            draining=False,
            workers=(worker,),
            clock_skew_s={"postgresql": 0.0},
        )
    )
    metrics.request(route="/v1/chat/completions", status=200, mode="instant", seconds=1.0, first_token_s=0.1)
    metrics.tokens(mode="instant", input_=1, cached_input=1, reasoning=1, output=1)
    metrics.refused("requests")
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


@cache
def _recorded() -> dict[str, str]:
    """SGLang's metrics: name → type."""
    lines = RECORDED.read_text().splitlines()
    return dict((name, kind) for name, kind in (line.split() for line in lines if not line.startswith("#")))


def _workers() -> set[str]:
    return {name + suffix for name, kind in _recorded().items() for suffix in _SUFFIXES[kind]}


def _dashboard() -> dict[str, Any]:
    return json.loads((INFRA / "grafana" / "dashboards" / "museway.json").read_text())


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _queries() -> list[Any]:
    drawn = [
        (panel["title"], target["expr"]) for panel in _dashboard()["panels"] for target in panel.get("targets", [])
    ]
    told = [(rule["alert"], rule["expr"]) for rule in _rules()]
    return [pytest.param(expr, id=f"{title}-{n}") for n, (title, expr) in enumerate([*drawn, *told])]


@pytest.mark.parametrize("query", _queries())
def test_a_query_names_what_is_there(query: str) -> None:
    known = _ours()
    named = list(_NAME.finditer(query))
    assert named, "no metric at all"
    for match in named:
        name = match[1]
        assert name in known or name in _workers() or name == "up", f"{name} is on no /metrics"
        if name in known and match["matchers"]:
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", match["matchers"]))
            assert labels <= known[name] | _OF_PROMETHEUS, f"{name} has no label {labels - known[name]}"
    ours = [known[match[1]] for match in named if match[1] in known]
    for names in _GROUPED.findall(query):
        for label in (part.strip() for part in names.split(",")):
            assert label in _OF_PROMETHEUS or any(label in labels for labels in ours), f"nothing has a label {label}"


def test_a_bucket_is_asked_with_rate_and_le() -> None:
    for parameter in _queries():
        query = parameter.values[0]
        if "histogram_quantile" in query:
            assert (
                re.search(r"_bucket(\{[^}]*\})?\[", query) and "le" in _GROUPED.findall(query)[0] and "rate(" in query
            )


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    drawn = " ".join(target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", []))
    ours = [name for name in _ours() if name.startswith("museway_")]
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in ours}
    assert not {name for name in families if name not in drawn}


def test_the_dashboard_is_whole() -> None:
    dashboard = _dashboard()
    panels = dashboard["panels"]
    assert dashboard["uid"] == "museway" and len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    sources = {panel["datasource"]["uid"] for panel in panels if "datasource" in panel}
    provisioned = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert sources == {source["uid"] for source in provisioned}


def test_alerts_say_what_to_look_at() -> None:
    names = [rule["alert"] for rule in _rules()]
    assert len(set(names)) == len(names)
    for rule in _rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["first"].endswith(".")
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert any(label in _ours().get(match[1], set()) for match in _NAME.finditer(rule["expr"]))


def test_the_scrape_reaches_what_compose_starts() -> None:
    config = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    for job in config["scrape_configs"]:
        for static in job["static_configs"]:
            for target in static["targets"]:
                assert target.split(":")[0] in services, target
    assert all((INFRA / "prometheus" / name).is_file() for name in config["rule_files"])


@pytest.mark.engine
def test_the_real_worker_has_what_was_recorded(real_worker: str) -> None:
    body = json.dumps({"text": "One two three four five six.", "sampling_params": {"max_new_tokens": 2}}).encode()
    for _ in range(2):  # SGLang shows a counter from its first increment on: the second prompt is cached
        asked = urllib.request.Request(f"{real_worker}/generate", body, {"content-type": "application/json"})
        urllib.request.urlopen(asked, timeout=60).close()
    with urllib.request.urlopen(f"{real_worker}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    there = dict(re.findall(r"^# TYPE (sglang:\S+) (\w+)$", text, re.MULTILINE))
    used = {name for name in _recorded() for parameter in _queries() if name in parameter.values[0]}
    assert used and {name: _recorded()[name] for name in used} == {name: there.get(name) for name in used}
