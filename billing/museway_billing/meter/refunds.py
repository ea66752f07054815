"""What is given back by policy, at once: one table, which recovery and serving follow and which is published.

`python -m museway_billing.meter.refunds` prints the page; a test holds the published one against it.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Outcome(StrEnum):
    """How a request, or a call of it, ended."""

    COMPLETE = "complete"
    HOLD_ENDED = "hold_ended"
    CLIENT_LEFT = "client_left"
    NOTHING_DELIVERED = "nothing_delivered"
    BROKE_OFF = "broke_off"
    UNANSWERABLE = "unanswerable"
    LIMIT_REACHED = "limit_reached"
    PROCESS_DIED = "process_died"
    PROCESS_DIED_KEYED = "process_died_keyed"
    PROCESS_DIED_INTERNAL = "process_died_internal"
    RECORD_LOST = "record_lost"
    UNCOUNTED = "uncounted"


class Refund(Struct, frozen=True, kw_only=True):
    """`status` and `code` are what the caller sees of it, a dash where nothing. `given_back`: all that the records of it
    were charged is credited in the transaction that charges it."""

    when: str
    status: str
    code: str
    billed: str
    given_back: bool


REFUNDS: Final[dict[Outcome, Refund]] = {
    Outcome.COMPLETE: Refund(
        when="The answer is complete", status="200", code="–", billed="what the model made", given_back=False
    ),
    Outcome.HOLD_ENDED: Refund(
        when="Credit, a cap or `max_cost_nano_usd` ends the answer",
        status="200",
        code="`budget_exhausted`",
        billed="what was delivered",
        given_back=False,
    ),
    Outcome.CLIENT_LEFT: Refund(
        when="You close the connection, or cancel",
        status="499",
        code="–",
        billed="what was delivered; with an Idempotency-Key what was made within the grace, if you fetch it",
        given_back=False,
    ),
    Outcome.NOTHING_DELIVERED: Refund(
        when="The request fails before anything of an answer reached you, whosever fault it is",
        status="4xx, 5xx",
        code="any",
        billed="nothing",
        given_back=True,
    ),
    Outcome.BROKE_OFF: Refund(
        when="A stream ends by a failure of ours after text had left: the worker is lost, too slow, or we are",
        status="500, 502, 504",
        code="`internal_error`, `engine_lost`, `engine_timeout`, `deadline_exceeded`",
        billed="nothing",
        given_back=True,
    ),
    Outcome.UNANSWERABLE: Refund(
        when="A stream ends because the request can't be answered as it is (a grammar that does not compile)",
        status="400",
        code="`invalid_request`",
        billed="what was delivered",
        given_back=False,
    ),
    Outcome.LIMIT_REACHED: Refund(
        when="A stream ends because a later step of it meets a limit",
        status="402, 429",
        code="`insufficient_credit`, `cap_reached`, `rate_limit_exceeded`",
        billed="what was delivered",
        given_back=False,
    ),
    Outcome.PROCESS_DIED: Refund(
        when="Our process dies in the middle of a stream; no Idempotency-Key",
        status="connection lost",
        code="–",
        billed="what was delivered, as far as it was counted",
        given_back=False,
    ),
    Outcome.PROCESS_DIED_KEYED: Refund(
        when="Our process dies; with an Idempotency-Key, so that you can have the answer anew",
        status="connection lost",
        code="–",
        billed="nothing",
        given_back=True,
    ),
    Outcome.PROCESS_DIED_INTERNAL: Refund(
        when="Our process dies while agents think whose text you never saw",
        status="connection lost",
        code="–",
        billed="nothing for these agents",
        given_back=True,
    ),
    Outcome.RECORD_LOST: Refund(
        when="Our disk loses the record of a call that had ended",
        status="–",
        code="–",
        billed="nothing",
        given_back=True,
    ),
    Outcome.UNCOUNTED: Refund(
        when="Text was delivered and the worker never told its count",
        status="200",
        code="–",
        billed="the prompt, where it was counted; a reserve is free again after 24 hours",
        given_back=False,
    ),
}

_HEAD = """\
# What is given back

By itself, with the record that charges it: `credited_nano_usd` in `museway usage export`. Whatever else went wrong is corrected
by hand (`museway credits adjust --request …`), always as a new entry with a reason.

| when | status | code | billed | given back |
|---|---|---|---|---|
"""


def page() -> str:
    """The table as Markdown."""
    rows = (
        f"| {row.when} | {row.status} | {row.code} | {row.billed} | {'all of it' if row.given_back else 'no'} |\n"
        for row in REFUNDS.values()
    )
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
