"""Engine calls for tests of billing: identities, and the records they end as. Nothing random: `number` makes the ids."""

from __future__ import annotations

from datetime import UTC, datetime

from museway_billing.meter import Meter, Reported
from museway_billing.prices import PriceBook, default_versions
from museway_billing.timestamp import to_microseconds
from museway_billing.usage import CallIdentity, State, Tariff, UsageRecord

BOOK = PriceBook(default_versions())
NOW = datetime.now(UTC).replace(microsecond=0)
WORKER = "http://127.0.0.1:30000"


def tariff(mode: str = "thinking", organization: str = "org_a") -> Tariff:
    return BOOK.tariff(organization, "muse", mode, NOW)


def identity(
    number: int,
    *,
    organization: str = "org_a",
    mode: str = "thinking",
    request: int | None = None,
    created: datetime = NOW,
    priced_prompt: int | None = None,
    policy_cached: int = 0,
    internal: bool = False,
    idempotency_hash: bytes = b"",
) -> CallIdentity:
    """Ids have their real width; calls of one `request` share its id."""
    call, asked = f"{number:026}", f"{number if request is None else request:026}"
    return CallIdentity(
        record_id=f"use_{call}",
        request_id=f"req_{asked}",
        rid=f"req_{asked}.a{number:08}",
        hold_id=f"hold_{asked}",
        organization=organization,
        project=f"prj_{organization}",
        key=f"key_{organization}",
        mode=mode,
        phase="answer",
        agent=0,
        model="muse",
        tariff=tariff(mode, organization),
        created=to_microseconds(created) + number,
        priced_prompt=priced_prompt,
        policy_cached=policy_cached,
        internal=internal,
        idempotency_hash=idempotency_hash,
    )


def finished(
    call: CallIdentity, reported: Reported = (120, 20, 300, 80), *, state: State = State.COMPLETE, credit: bool = False
) -> UsageRecord:
    """The record of a call that ran to its end with these counts."""
    meter = Meter(call)
    meter.delivered(reported[2], reported[3])
    return meter.finish(state, reported, worker=WORKER, ended=call.created + 1_000_000, credit=credit)


def record(number: int, *, organization: str = "org_a", credit: bool = False) -> UsageRecord:
    return finished(identity(number, organization=organization), credit=credit)
