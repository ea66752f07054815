"""What a request's records come to when its hold ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import structs

from museway_billing.meter.refunds import Outcome
from museway_billing.money import NanoUsd
from museway_billing.usage import State, UsageRecord
from museway_engine.errors import InvalidForModel
from museway_platform.limits.limiter import Used
from museway_platform.serving.metering import CallMeter
from museway_platform.serving.refusals import Denied

log = logging.getLogger("museway.admission")


def outcome_of(error: Exception) -> Outcome:
    """What it means for the bill that a stream ended by `error` after text had left."""
    match error:
        case InvalidForModel():
            return Outcome.UNANSWERABLE
        case Denied():
            return Outcome.LIMIT_REACHED
        case _:
            return Outcome.BROKE_OFF


def given_back(record: UsageRecord) -> UsageRecord:
    """The record of a call that costs nothing after all."""
    return structs.replace(record, credited_nano_usd=record.amount_nano_usd, reserve_nano_usd=NanoUsd(0))


def as_abandoned(record: UsageRecord, meter: CallMeter, *, nothing_left: bool) -> UsageRecord:
    """The record of a call of a request that ended before all of it was given out; see `CallMeter.abandoned`."""
    made = meter.abandoned(nothing_left=nothing_left)
    return structs.replace(made, reserve_nano_usd=record.reserve_nano_usd) if made.state is State.UNKNOWN else made


def with_reserve(record: UsageRecord, held: int) -> UsageRecord:
    """An unknown count keeps what the hold had for its call (`held`, nano-USD) reserved, until it is known or given up."""
    if record.state is not State.UNKNOWN:
        return record
    return structs.replace(record, reserve_nano_usd=NanoUsd(max(0, held - record.amount_nano_usd)))


def used_of(records: Sequence[UsageRecord], held: int) -> Used:
    """What the limiter settles: never more than was `held`, in nano-USD."""
    input_ = cached = output = amount = 0
    for record in records:
        input_ += record.input or 0
        cached += record.cached_input or 0
        output += (record.reasoning or 0) + (record.output or 0)
        amount += record.taken_nano_usd
    if amount > held:
        log.critical("records of a request come to more than its hold", extra={"cost_nano_usd": amount})
    return Used(input_tokens=input_, cached_tokens=cached, output_tokens=output, amount=min(amount, held))
