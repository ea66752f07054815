"""What the worker says about itself: models, settings, load, metrics."""

import time

from doubles.fake_worker.engine import Engine
from doubles.fake_worker.options import Options
from doubles.fake_worker.shapes import JsonObject
from doubles.fake_worker.vocabulary import SIZE

_STARTED = int(time.time())


def models(options: Options) -> JsonObject:
    card = {"id": options.model, "object": "model", "created": _STARTED, "owned_by": "sglang", "root": options.model}
    return {"object": "list", "data": [{**card, "parent": None, "max_model_len": options.context}]}


def model_info(options: Options) -> JsonObject:
    return {
        "model_path": "fake",
        "served_model_name": options.model,
        "tokenizer_path": "fake",
        "is_generation": True,
        "preferred_sampling_params": None,
        "weight_version": "default",
        "load_format": "auto",
        "reasoning_parser": "qwen3" if options.reasoning_parser else None,
        "tool_call_parser": "qwen",
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "model_type": "fake",
        "architectures": ["FakeForCausalLM"],
        "vocab_size": SIZE,
    }


def server_info(options: Options) -> JsonObject:
    return {
        "model_path": "fake",
        "tokenizer_path": "fake",
        "served_model_name": options.model,
        "context_length": options.context,
        "max_running_requests": options.max_running,
        "max_queued_requests": options.max_queued,
        "max_total_tokens": options.cache_tokens,
        "max_total_num_tokens": options.cache_tokens,
        "page_size": 1,
        "schedule_policy": "fcfs",
        "enable_priority_scheduling": True,
        "disable_priority_preemption": True,
        "max_req_input_len": options.context - 6,
        "enable_cache_report": options.cache_details != "null",
        "enable_metrics": True,
        "incremental_streaming_output": not options.cumulative,
        "stream_interval": 1,
        "reasoning_parser": "qwen3" if options.reasoning_parser else None,
        "tool_call_parser": "qwen",
        "enable_strict_thinking": True,
        "grammar_backend": "xgrammar",
        "disable_overlap_schedule": True,
        "status": "ready",
        "version": "0.5.23",
        "internal_states": [{"effective_max_running_requests_per_dp": options.max_running}],
    }


def loads(engine: Engine) -> JsonObject:
    now = time.time()
    load = {
        "timestamp": now,
        "dp_rank": 0,
        "num_running_reqs": engine.running,
        "num_waiting_reqs": engine.waiting,
        "num_waiting_uncached_tokens": 0,
        "num_used_tokens": sum(len(run.prompt) for run in engine.live.values()),
        "max_total_num_tokens": engine.options.cache_tokens,
        "max_running_requests": engine.options.max_running,
    }
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now))
    aggregate = {name: load[name] for name in ("num_running_reqs", "num_waiting_reqs")}
    return {"timestamp": stamp, "version": "0.5.23", "accelerator": None, "loads": [load], "aggregate": aggregate}


def metrics(engine: Engine) -> str:
    """Prometheus text with the series that a gateway compares its own sums with.

    As with priority scheduling on, gauges come as the total (`priority=""`) and once more per priority.
    """
    counters = engine.counters
    rows = (
        ("prompt_tokens_total", "counter", counters.prompt),
        ("generation_tokens_total", "counter", counters.generation),
        ("cached_tokens_total", "counter", counters.cached),
        ("num_requests_total", "counter", counters.requests),
        ("num_aborted_requests_total", "counter", counters.aborted),
        ("num_running_reqs", "gauge", engine.running),
        ("num_queue_reqs", "gauge", engine.waiting),
    )
    lines: list[str] = []
    for name, kind, value in rows:
        lines += [f"# HELP sglang:{name} {name}", f"# TYPE sglang:{name} {kind}"]
        for priority in ("", "0") if kind == "gauge" else ("",):
            label = f'engine_type="unified",model_name="{engine.options.model}",priority="{priority}"'
            lines.append(f"sglang:{name}{{{label}}} {float(value)}")
    return "\n".join(lines) + "\n"
