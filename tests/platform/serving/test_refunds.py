"""The published table of refunds is the one that is followed."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from museway_billing.meter.refunds import REFUNDS, Outcome, page
from museway_engine.errors import DeadlinePassed, InvalidForModel, WorkerLost, WorkerTimeout
from museway_platform.api.errors import TABLE, to_api_error
from museway_platform.serving.settlement import outcome_of


def test_the_page_is_the_table() -> None:
    published = files("museway_platform").joinpath("docs", "refunds.md").read_text()
    assert published == page(), "python -m museway_billing.meter.refunds > platform/museway_platform/docs/refunds.md"


def test_every_outcome_has_its_row() -> None:
    assert REFUNDS.keys() == set(Outcome)


def test_statuses_and_codes_are_those_that_callers_get() -> None:
    for refund in REFUNDS.values():
        codes = [code for code in re.findall(r"`(\w+)`", refund.code) if code in TABLE]
        assert not codes or {str(TABLE[code].status) for code in codes} == set(refund.status.split(", ")), refund


@pytest.mark.parametrize(
    "error",
    [
        WorkerLost("w", delivered=True, cause="reset"),
        WorkerTimeout("w", delivered=True, cause="slow"),
        DeadlinePassed(),
        RuntimeError("ours"),
        InvalidForModel("no such grammar"),
    ],
)
def test_an_error_in_a_stream_is_in_the_row_of_its_code(error: Exception) -> None:
    refund = REFUNDS[outcome_of(error)]
    assert f"`{to_api_error(error).code}`" in refund.code
