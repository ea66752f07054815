"""What money and durability cost a request in this process: admission, hold, slot, counts, record, settlement.

    python -m bench.admission [--requests 20000] [--waiting 64]

The gateway's own path (`serving/admission.py`) over the in-process limiter with three rate limits and a cap, and over a real
journal on this disk; `waiting` requests are always under way, each waits until its record is durable. CPU in microseconds a
request, of the event loop's thread and of the journal's; no HTTP, no worker, no database.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import uvloop

from bench.limits import POLICY
from limiters import SUBJECT
from museway_billing.journal import Journal
from museway_billing.money import NanoUsdPerMtok
from museway_billing.usage import Tariff
from museway_engine.allowance import CallSpec, Counts, Outcome
from museway_engine.completion import Completion, Message, Mode
from museway_engine.events import Output
from museway_engine.rid import Phase, make_rid
from museway_engine.run import Bound, Prepared
from museway_platform.identity.ids import new_id
from museway_platform.identity.principal import Principal
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.serving.admission import Admission, Budget

PROMPT, ANSWER = 250, 64
WORKER = "http://127.0.0.1:30000"
BOUND = Bound(input=PROMPT, cached_input=0, reasoning=0, output=ANSWER)
PRICE = NanoUsdPerMtok(1_000_000_000)
TARIFF = Tariff(1, PRICE, PRICE, PRICE, PRICE)
PRINCIPAL = Principal(
    organization=SUBJECT.organization, project=SUBJECT.project, key=SUBJECT.key, plan="unlimited", live=True
)


def prepared() -> Prepared:
    """A JSON request of a short prompt and 64 tokens of answer."""
    completion = Completion(
        request_id=new_id("req"), model="muse", messages=(Message(role="user", content="x"),), max_tokens=ANSWER
    )
    return Prepared(
        completion=completion,
        mode=Mode.INSTANT,
        resolved=Mode.INSTANT,
        rule="default",
        prompt_bound=PROMPT,
        max_tokens=ANSWER,
        budget=0,
        agents=0,
        rounds=0,
        agent_max_tokens=0,
        first=BOUND,
        worst=BOUND,
        likely=BOUND,
        least=BOUND,
    )


async def never() -> Prepared:
    raise AssertionError("the bound was refused")


async def request(admission: Admission, asked: Prepared) -> None:
    """What `serving/serve.py` and a mode do with one allowance."""
    budget = Budget(principal=PRINCIPAL, tariff=TARIFF, max_cost=None)
    allowance = await admission.grant(asked, budget, never)
    rid = make_rid(asked.completion.request_id, Phase.ANSWER)
    spec = CallSpec(rid=rid, phase=Phase.ANSWER, agent=0, prompt_bound=PROMPT, max_tokens=ANSWER, whole=True)
    meter = await allowance.open(spec)
    meter.dispatched(WORKER)
    meter.prompt(PROMPT, 0)
    await allowance.deliver([Output(rid, 0, b'"x"', ANSWER)])
    await meter.close(Outcome.COMPLETE, Counts(PROMPT, 0, 0, ANSWER))
    await allowance.settle()


async def main(total: int, waiting: int) -> None:
    limiter = MemoryLimiter()
    await limiter.open_account(SUBJECT.organization, posted=10**15, sequence=0)
    await limiter.configure(POLICY, organization=SUBJECT.organization)
    with tempfile.TemporaryDirectory() as folder:
        journal = await Journal.open(Path(folder), process="bench")
        admission = Admission(limiter, journal)
        asked = iter([prepared() for _ in range(total)])
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 1000)  # as `gateway.py` does

        async def client() -> None:
            for one in asked:
                await request(admission, one)

        loop_began, all_began = time.thread_time(), time.process_time()
        await asyncio.gather(*(client() for _ in range(waiting)))
        loop_s, all_s = time.thread_time() - loop_began, time.process_time() - all_began
        await journal.close()
    print(
        f"{all_s * 1e6 / total:.1f} us of CPU a request: {loop_s * 1e6 / total:.1f} of the loop's thread, "
        f"{(all_s - loop_s) * 1e6 / total:.1f} of the journal's"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=64)
    chosen = parser.parse_args()
    uvloop.run(main(chosen.requests, chosen.waiting))
