"""What the handlers work with. Filled by `museway_platform.gateway` while the application starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from museway_billing.journal import Journal
from museway_billing.receipts import Signer
from museway_engine.completion import Mode
from museway_engine.engine import Engine
from museway_platform.api.authentication import Authentication
from museway_platform.api.keyed import ChatRun
from museway_platform.api.metrics import Metrics
from museway_platform.database.pool import Pool
from museway_platform.idempotency.registry import Registry
from museway_platform.limits.limiter import Limiter
from museway_platform.serving.serve import Serving


class Parts:
    """The joined parts of one gateway process. `missing` names what keeps it from being ready, with reasons."""

    def __init__(
        self,
        *,
        pool: Pool,
        authentication: Authentication,
        limiter: Limiter,
        journal: Journal,
        engine: Engine,
        serving: Serving,
        runs: Registry[ChatRun],
        signer: Signer,
        metrics: Metrics,
        names: Mapping[str, tuple[str, Mode | None]],
        missing: Callable[[], dict[str, str]],
    ) -> None:
        self.pool = pool
        self.authentication = authentication
        self.limiter = limiter
        self.journal = journal
        self.engine = engine
        self.serving = serving
        self.runs = runs
        self.signer = signer
        self.metrics = metrics
        self.names = names
        self.missing = missing


class Holder:
    """Where `Parts` appear once the application has started. Reading them before is a mistake of ours."""

    def __init__(self) -> None:
        self._parts: Parts | None = None

    def fill(self, parts: Parts | None) -> None:
        self._parts = parts

    @property
    def parts(self) -> Parts:
        assert self._parts is not None, "the gateway has not started"
        return self._parts
