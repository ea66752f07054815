"""Profiles are data: all load, each claim is proved at start, and what fails degrades."""

from __future__ import annotations

import asyncio
import json

import pytest

from asking.ask import QUICK, ask, opened, run
from doubles.fake_worker.vocabulary import decode, encode
from doubles.worker_process import FakeWorker
from museway_engine.completion import Effort, Mode
from museway_engine.engine import Engine
from museway_engine.profiles.facts import Facts, common_prefix, common_suffix
from museway_engine.profiles.probe import Probe
from museway_engine.profiles.profile import Profile, ThinkingRules, pick_profile, profiles
from museway_engine.worker.client import Client
from museway_engine.worker.tokenizer import Tokenizer

pytestmark = pytest.mark.anyio


def test_all_profiles_load_and_make_sense() -> None:
    assert {"generic", "smollm2-cpu", "qwen3"} <= set(profiles())
    for profile in profiles().values():
        budgets = profile.thinking.budgets
        asked = [budgets[e] for e in (Effort.MINIMAL, Effort.LOW, Effort.MEDIUM, Effort.HIGH, Effort.XHIGH, Effort.MAX)]
        assert asked == sorted(asked)
        assert 2 <= profile.contemplating.agents <= 16
        assert profile.contemplating.draft_tokens <= profile.contemplating.agent_tokens
        assert profile.maxima.answer_floor < profile.maxima.default_tokens
        assert not profile.thinking.is_native or profile.thinking.close in profile.thinking.cut


@pytest.mark.parametrize(
    ("told", "device", "name"),
    [
        ("muse /models/smollm2-135m llama", "cpu", "smollm2-cpu"),
        ("muse /models/x You are a helpful AI assistant named SmolLM", "cpu", "smollm2-cpu"),
        ("muse /models/smollm2-1.7b", "cuda", "generic"),
        ("muse Qwen/Qwen3-8B", "cuda", "qwen3"),
        ("muse /models/llama", None, "generic"),
    ],
)
def test_a_profile_is_picked_by_what_a_worker_tells(told: str, device: str | None, name: str) -> None:
    assert pick_profile(told, device).name == name


async def _probe(url: str, profile: Profile) -> Facts:
    client = Client(url, timing=QUICK)
    try:
        return await Probe(Tokenizer(client, "muse", context=8192), "muse", profile).run(8192)
    finally:
        client.close()


async def test_a_native_profile_on_a_template_that_opens_the_block(fake_worker: FakeWorker) -> None:
    """The double's template adds `<think>` for a thinking rendering: that is found, not added a second time."""
    facts = await _probe(fake_worker.url, profiles()["qwen3"])
    assert (facts.thinking.drop, list(facts.thinking.open)) == (0, encode("<think>\n"))
    assert facts.notes == ()
    assert facts.profile.name == "qwen3"


async def test_thinking_on_a_native_profile(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker, profile="qwen3") as engine:
        heard = await run(engine, ask(mode=Mode.THINKING, max_tokens=100))
        assert heard.reasoning
        assert "</think>" not in heard.reasoning + heard.output
        assert "<think>" not in heard.reasoning + heard.output
        assert heard.done.stop_reason in ("complete", "length", "budget", "eos")


async def test_what_can_not_be_proved_degrades_to_markers() -> None:
    """A template whose thinking switch changes the system block, not the tail alone."""
    rules = ThinkingRules(is_native=True, open="<think>", close="</think>", kwargs={"enable_thinking": True})
    profile = Profile(name="odd", kwargs={"enable_thinking": False}, thinking=rules)
    server = await asyncio.start_server(_odd_template, "127.0.0.1", 0)
    async with server:
        facts = await _probe(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", profile)
    assert facts.profile.thinking == profiles()["generic"].thinking
    assert facts.notes != ()
    assert facts.profile.name == "odd"
    assert list(facts.thinking.cut) == encode(facts.profile.thinking.cut)


async def _odd_template(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A worker that only tokenizes."""
    while head := await reader.readline():
        size = 0
        while (line := await reader.readline()) != b"\r\n":
            if line.startswith(b"content-length:"):
                size = int(line[15:])
        asked = json.loads(await reader.readexactly(size))
        if head.startswith(b"POST /v1/detokenize"):
            answer: dict[str, object] = {"text": decode(asked["tokens"], skip_special=asked["skip_special_tokens"])}
        elif "prompt" in asked:
            answer = {"tokens": encode(asked["prompt"])}
        else:
            thinks = asked.get("chat_template_kwargs", {}).get("enable_thinking", False)
            text = "Think first.\n" if thinks else ""
            text += "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in asked["messages"])
            answer = {"tokens": encode(text + "<|im_start|>assistant\n")}
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    writer.close()


async def test_the_end_of_the_users_turn_is_found(fake_worker: FakeWorker) -> None:
    async with opened(fake_worker) as engine:
        ids = await engine.tokenize(ask("alpha"))
        facts = _facts(engine)
        assert tuple(ids[-len(facts.user_tail) :]) == facts.user_tail
        assert facts.special


def _facts(engine: Engine) -> Facts:
    completion = ask("x")
    assert engine.prepare(completion)
    return engine._models["muse"].ready_facts  # pyright: ignore[reportPrivateUsage]


async def test_a_worker_that_does_not_tokenize_is_not_ready(fake_worker: FakeWorker) -> None:
    async with opened(f"{fake_worker.url}/nowhere", ready=False) as engine:
        assert not await engine.wait_ready(0.3)
        assert engine.workers()[0].reason.startswith(("answers status", "does not tokenize"))


def test_common_ends() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([1, 2], [1, 2]) == 2
    assert common_suffix([1, 2, 3], [9, 2, 3]) == 2
    assert common_suffix([], [1]) == 0
