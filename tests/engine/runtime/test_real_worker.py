"""The real SGLang on this machine: what its flags and shims are there for, seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from museway_engine.runtime.cache import Cache
from museway_engine.runtime.install import install
from museway_engine.runtime.progress import Silent
from processes import descendants, ended
from real_engine import cache_root

pytestmark = pytest.mark.engine


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def post(url: str, **body: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        said: bytes = answer.read()
        return said


class Details(msgspec.Struct):
    cached_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    prompt_tokens_details: Details


class Message(msgspec.Struct):
    content: str | None
    reasoning_content: str | None


class Choice(msgspec.Struct):
    message: Message
    finish_reason: str


class Answer(msgspec.Struct):
    choices: list[Choice]
    usage: Usage


def chat(url: str, question: str, **more: object) -> Answer:
    messages = [{"role": "user", "content": question}]
    said = post(f"{url}/v1/chat/completions", model="muse", messages=messages, temperature=0, **more)
    return msgspec.json.decode(said, type=Answer)


def test_it_knows_paris(real_worker: str) -> None:
    answer = chat(real_worker, "What is the capital of France?", max_tokens=16)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_it_runs_with_the_flags_that_the_gateway_relies_on(real_worker: str) -> None:
    info = json.loads(get(f"{real_worker}/server_info"))
    wanted = {
        "version": "0.5.23",
        "served_model_name": "muse",
        "schedule_policy": "fcfs",
        "enable_priority_scheduling": True,
        "disable_priority_preemption": True,
        "default_priority_value": 0,
        "enable_cache_report": True,
        "incremental_streaming_output": True,
        "load_snapshot_publish_interval": 1,
    }
    assert {name: info[name] for name in wanted} == wanted


def test_thinking_stops_at_its_budget(real_worker: str) -> None:
    """Without the shim in hooks.py this request ends the server."""
    answer = chat(
        real_worker,
        "A train goes 60 km in 1.5 hours. How fast is it?",
        max_tokens=40,
        chat_template_kwargs={"enable_thinking": True},
        custom_params={"thinking_budget": 8},
    )
    assert answer.choices[0].message.reasoning_content
    assert answer.choices[0].message.content
    assert 0 < answer.usage.reasoning_tokens <= 8 + 3  # </think> is three tokens here, and counts


def test_a_salt_keeps_prefixes_apart(real_worker: str) -> None:
    question = f"{time.time_ns()} " + "stone river " * 40
    one, again, other = (
        chat(real_worker, question, max_tokens=1, cache_salt=f"{salt}{question}").usage.prompt_tokens_details
        for salt in ("a", "a", "b")
    )
    assert one.cached_tokens == 0
    assert again.cached_tokens > 80
    assert other.cached_tokens == 0


def test_json_follows_its_schema(real_worker: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
        "required": ["city", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    answer = chat(real_worker, "Describe Paris.", max_tokens=48, response_format=wanted)
    assert json.loads(answer.choices[0].message.content or "").keys() == {"city", "age"}


def test_generate_streams_deltas(real_worker: str) -> None:
    body = post(
        f"{real_worker}/generate",
        text="One two three",
        stream=True,
        sampling_params={"max_new_tokens": 4, "ignore_eos": True},
    )
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    assert [len(event["output_ids"]) for event in events] == [1, 1, 1, 1]


def test_no_module_of_the_runtime_hides_one_of_the_engines() -> None:
    """The folder stands first on the worker's path (runtime/__init__.py)."""
    installation = install(Cache(cache_root()), progress=Silent())
    listed = "import sys, pkgutil; print(*sys.stdlib_module_names, *(m.name for m in pkgutil.iter_modules()))"
    said = subprocess.run([installation.python, "-I", "-c", listed], capture_output=True, check=True, text=True)
    runtime = Path(__file__).parents[3] / "engine" / "museway_engine" / "runtime"
    ours = {path.stem for path in runtime.iterdir() if path.suffix == ".py" or path.is_dir()} - {
        "__init__",
        "__pycache__",
    }
    assert not ours & set(said.stdout.split())


_OWNER = """
import asyncio, sys
from pathlib import Path
from real_engine_keeper import real_worker_in
from museway_engine.runtime.progress import Silent
async def main():
    worker = real_worker_in(Path(sys.argv[1]), Path(sys.argv[2]))
    worker.start()
    await worker.wait_ready(Silent())
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.faults
def test_kill_9_of_its_owner_leaves_no_sglang(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _OWNER, str(tmp_path), str(cache_root())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        family = descendants(owner.pid)
        owner.kill()
    assert len(family) >= 4, "guard, server, scheduler, detokenizer"
    assert ended(family, within_s=10)
