"""The composition root: opens the parts of one gateway process in order, closes them in reverse. Nobody else knows all.

Order at the start: what a dead process left is recovered and in the ledger before balances are read, and limits are known
before the first key is. At the end: nothing new is taken, running requests finish, everything is settled and drained.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from litestar import Litestar
from litestar.types import ASGIApp, Receive, Scope, Send

from museway_billing.journal import Journal, keeping
from museway_billing.journal.drain import Drain, OnDrained
from museway_billing.journal.recovery import claim_dead
from museway_billing.ledger import sweep
from museway_billing.money import NanoUsd
from museway_billing.prices import store as prices
from museway_billing.receipts import Signer
from museway_engine.completion import Mode
from museway_engine.engine import Engine, ModelConfig, QueueLimits
from museway_platform.api import app, logs
from museway_platform.api.address import Addresses
from museway_platform.api.authentication import Authentication
from museway_platform.api.inference import ChatCompletions
from museway_platform.api.keyed import ChatRun, KeyedAnswers
from museway_platform.api.metrics import Gauges, Metrics, WorkerGauge
from museway_platform.api.observe import Observer
from museway_platform.api.parts import Holder, Parts
from museway_platform.api.request_log import RequestLog
from museway_platform.database.clock import ClockSkew
from museway_platform.database.lease import AnotherProcess, only_process
from museway_platform.database.pool import Connection, open_pool
from museway_platform.database.watch import Watch
from museway_platform.idempotency.folder import own_folder
from museway_platform.idempotency.kept import Kept
from museway_platform.idempotency.names import Namer
from museway_platform.idempotency.registry import Registry
from museway_platform.idempotency.share import Share
from museway_platform.identity.directory import Directory
from museway_platform.limits.feed import Feed
from museway_platform.limits.memory import MemoryLimiter
from museway_platform.limits.refused.recorder import RefusalRecorder
from museway_platform.limits.shared.limiter import SharedLimiter
from museway_platform.limits.shared.membership import Membership
from museway_platform.serving.admission import Admission
from museway_platform.serving.serve import Serving
from museway_platform.settings import Settings

log = logging.getLogger("museway.gateway")

ALIASES = (Mode.INSTANT, Mode.THINKING, Mode.CONTEMPLATING, Mode.AUTO)
CHANNELS = ("museway_identity", "museway_money", "museway_prices")
LEASE_SLACK_S = 5.0
"""How much longer than its drain time a process before this one is waited for."""
LIMITS_S = 5.0
"""How long the start waits for shared limits."""
FATAL_EXIT = 70
"""A background task died: what it did can't be done without it. The journal is recovered by the next process."""


def create_app() -> ASGIApp:
    """The ASGI application, by the settings of this process. Raises SettingsError."""
    settings = Settings.load().with_secrets()
    logs.configure()
    holder = Holder()
    process = Process(settings, holder)
    return app.create(holder, process.chat, process.lifespan)


class Process:
    """One gateway process."""

    def __init__(self, settings: Settings, holder: Holder) -> None:
        assert settings.database_url is not None, "serve needs a database"
        self._settings = settings
        self._dsn = settings.database_url.reveal()
        self._holder = holder
        self._chat: ChatCompletions | None = None
        self._serving: Serving | None = None
        self._runs: Registry[ChatRun] | None = None

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._chat is not None
        await self._chat(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            try:
                await self._open(stack)
            except AnotherProcess as refusal:
                log.critical("%s", refusal)
                raise
            _freeze_garbage()
            yield
            await self._finish_requests()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        redis_url = None if settings.redis_url is None else settings.redis_url.reveal()
        lease = only_process(self._dsn, wait_s=settings.drain_s + LEASE_SLACK_S, shared=redis_url is not None)
        await stack.enter_async_context(lease)
        pool = await stack.enter_async_context(open_pool(self._dsn))
        journals = settings.data_dir / "journal"
        journals.mkdir(parents=True, exist_ok=True)
        keeping.keep_drained(journals)
        name = f"gateway-{os.getpid()}"
        journal = await Journal.open(journals, process=name, segment_bytes=settings.journal_segment_bytes)
        stack.push_async_callback(journal.close)
        limiter = MemoryLimiter() if redis_url is None else SharedLimiter(journal.id)

        async def drained(amounts: Mapping[str, NanoUsd]) -> None:
            for organization, amount in amounts.items():
                await limiter.drained(organization, amount)

        drain = Drain(pool, journal, host=socket.gethostname(), on_drained=drained)
        answers = stack.enter_context(own_folder(settings.data_dir / "answers"))
        kept = await Kept.open(answers, interrupted=await _recover(drain, journals))
        await drain.flush()
        stack.push_async_callback(drain.close)
        limits = await stack.enter_async_context(Background())  # until the last request is settled
        async with pool.acquire() as connection, connection.transaction():
            book = await prices.seed(connection)

        feed = Feed(limiter)
        directory = Directory(pool, introduce=feed.introducer(pool))
        authentication = Authentication(
            directory, Addresses(settings.trusted_networks(), settings.unknown_keys_per_minute)
        )
        models = settings.served_models()
        engine = await Engine.open(
            [ModelConfig(id=name, urls=m.urls, profile=m.profile, context=m.context) for name, m in models.items()],
            secret=settings.secret_keys[0].reveal().encode(),
            queue=QueueLimits(waiting_max=settings.queue_max),
        )
        stack.push_async_callback(engine.close)
        metrics = Metrics()
        serving = Serving(
            engine=engine,
            admission=Admission(limiter, journal),
            book=book,
            secret=settings.secret_keys[0].reveal().encode(),
        )

        share = None if redis_url is None else Share(redis_url)
        runs = Registry[ChatRun](kept, grace_s=settings.resume_grace_s, share=share)
        stack.push_async_callback(runs.close)

        async def read_prices(connection: Connection) -> None:
            serving.book = await prices.load(connection)

        skew = ClockSkew()
        watch = Watch(self._dsn, CHANNELS, (directory.poll, feed.poll, read_prices, skew.poll))

        async def tell_all() -> None:
            feed.reload()
            await watch.caught_up()

        background = await stack.enter_async_context(Background())
        requests = RequestLog()
        background.start("requests", requests.run())
        refusals = RefusalRecorder(limiter, pool)
        background.start("refusals", refusals.run())
        background.start("watch", watch.run())
        background.start("drain", drain.run())
        background.start("sweep", sweep.run(pool))
        background.start("kept journals", keeping.run(journals))
        background.start("recovery", _keep_recovering(drain, limiter, journals, settings.recovery_interval_s))
        await watch.caught_up()
        if isinstance(limiter, SharedLimiter) and redis_url is not None:
            limits.start("limits", limiter.run())
            limits.start("keys", runs.keep_claims())
            limits.start("membership", Membership(redis_url, limiter, pool, drain, opened=tell_all).run())
            with suppress(TimeoutError):  # Redis may be away; then it is not ready, and says so
                await asyncio.wait_for(limiter.whole(), LIMITS_S)
        names = _names(models)
        self._serving, self._runs = serving, runs
        self._chat = ChatCompletions(
            serving=serving,
            keyed=KeyedAnswers(
                serving=serving,
                registry=runs,
                namer=Namer([key.reveal().encode() for key in settings.secret_keys]),
                route=app.HOT_PATH,
            ),
            authentication=authentication,
            observer=Observer(metrics, requests),
            refusals=refusals,
            names=names,
            body_limit=settings.body_bytes_max,
        )
        metrics.watch(lambda: _gauges(limiter, journal, drain, serving, skew))
        self._holder.fill(
            Parts(
                pool=pool,
                authentication=authentication,
                limiter=limiter,
                journal=journal,
                engine=engine,
                serving=serving,
                runs=runs,
                signer=Signer([key.reveal() for key in settings.receipt_keys]),
                metrics=metrics,
                names=names,
                missing=lambda: _missing(engine, serving, limiter),
            )
        )

    async def _finish_requests(self) -> None:
        """Take nothing new; let what runs finish, within the drain time."""
        assert self._serving is not None and self._runs is not None
        self._serving.draining = True
        self._runs.abandon_unattended()
        try:
            async with asyncio.timeout(self._settings.drain_s):
                await self._serving.idle()
        except TimeoutError:
            log.warning("requests still ran after %s s: their slots are recovered", self._settings.drain_s)


async def _recover(drain: Drain, journals: Path, on_drained: OnDrained | None = None) -> set[str]:
    """Claim the journals of dead processes on this disk, and hand them to the drain. The requests that were interrupted."""
    interrupted: set[str] = set()
    for claimed in await asyncio.to_thread(claim_dead, journals, ended=time.time_ns() // 1000):
        log.warning("recovered journal %s: %s interrupted calls", claimed.id, len(claimed.recovered))
        drain.adopt(claimed, on_drained=on_drained)
        interrupted |= {record.request_id for record in claimed.recovered}
    return interrupted


async def _keep_recovering(
    drain: Drain, limiter: MemoryLimiter | SharedLimiter, journals: Path, interval_s: float
) -> None:
    """What is recovered after balances were read has to lower them here as well as in the ledger. Where limits are shared
    the dead process's holds stand for it, until `Membership` ends them by what the ledger has."""

    async def found(amounts: Mapping[str, NanoUsd]) -> None:
        assert isinstance(limiter, MemoryLimiter)
        for organization, amount in amounts.items():
            limiter.recovered(organization, amount)
            await limiter.drained(organization, amount)

    while True:
        await asyncio.sleep(interval_s)
        try:
            await _recover(drain, journals, found if isinstance(limiter, MemoryLimiter) else None)
        except OSError as error:  # no room for what is recovered, say: nothing is lost, the next round finds the same
            log.warning("what a dead process left can't be recovered now: %s", error)


class Background:
    """The process's background tasks: it owns them, and can't go on without any of them."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        # tidy: allow task: owned by this object, ended in __aexit__
        task = asyncio.get_running_loop().create_task(_vital(name, work), name=name)
        self._tasks.append(task)


async def _vital(name: str, work: Coroutine[None, None, None]) -> None:
    """Run a background task; where it fails the process ends, and the next one recovers its journal."""
    try:
        await work
    except Exception:
        log.critical("%s died; the process ends and is recovered by the next", name, exc_info=True)
        logging.shutdown()
        os._exit(FATAL_EXIT)


def _names(models: Iterable[str]) -> dict[str, tuple[str, Mode | None]]:
    """Every id a caller may use: each served name and its aliases. A served name wins over another's alias."""
    names: dict[str, tuple[str, Mode | None]] = {}
    for model in models:
        names |= {f"{model}-{mode.value}": (model, mode) for mode in ALIASES}
    return names | {model: (model, None) for model in models}


def _missing(engine: Engine, serving: Serving, limiter: MemoryLimiter | SharedLimiter) -> dict[str, str]:
    workers = engine.workers()
    missing: dict[str, str] = {}
    if not any(worker.ready for worker in workers):
        reasons = ", ".join(f"{worker.url}: {worker.reason}" for worker in workers)
        missing["engine"] = reasons or "no worker is configured (MUSEWAY_ENGINE_URLS)"
    if serving.draining:
        missing["process"] = "it is stopping"
    if isinstance(limiter, SharedLimiter) and not limiter.is_whole:
        missing["limits"] = limiter.lost or "Redis is away, or what it counts is not whole yet"
    return missing


def _gauges(
    limiter: MemoryLimiter | SharedLimiter, journal: Journal, drain: Drain, serving: Serving, skew: ClockSkew
) -> Gauges:
    return Gauges(
        holds_open=limiter.holds_open,
        open_slots=journal.open_slots,
        running_requests=serving.running,
        pending_records=drain.lag_records,
        drain_lag_s=drain.lag_ns / 1e9,
        draining=serving.draining,
        workers=tuple(WorkerGauge(w.url, w.ready, w.in_flight) for w in serving.engine.workers()),
        clock_skew_s={"postgresql": skew.seconds},
    )


def _freeze_garbage() -> None:
    """What exists now lives as long as the process: keep it out of collections (0.7 of a chunk's CPU, STACK)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
