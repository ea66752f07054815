"""`GET /v1/usage` and `/v1/costs`: OpenAI's pages of buckets over the roll-ups, the caller's organization only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

import msgspec
from litestar import Request, Response, get

from museway_billing.reports.query import Bucket, Dimension, UsageFilter, UsageRow
from museway_billing.reports.store import usage as sums
from museway_engine.completion import Mode
from museway_platform.api.errors import ApiError
from museway_platform.api.exchange import Asked, json_response
from museway_platform.api.query import read_query
from museway_platform.api.shapes import (
    CostAmount,
    CostBucket,
    CostPage,
    CostResult,
    UsageBucket,
    UsagePage,
    UsageQuery,
    UsageResult,
)

_WIDTH_S = {"1h": 3600, "1d": 86400}
_BUCKET = {"1h": Bucket.HOUR, "1d": Bucket.DAY}
_DIMENSION = {
    "project_id": Dimension.PROJECT,
    "api_key_id": Dimension.KEY,
    "model": Dimension.MODEL,
    "mode": Dimension.MODE,
    "line_item": Dimension.CLASS,
}
_LISTS = frozenset({"group_by", "project_ids", "api_key_ids", "models", "modes"})


class _Page(msgspec.Struct, frozen=True):
    """One page: its buckets' starts (seconds), their width, and where the next page begins."""

    starts: range
    width: int
    next_page: str | None
    rows: dict[int, list[UsageRow]]


@get("/v1/usage")
async def get_usage(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    query = read_query(request, UsageQuery, lists=_LISTS)
    if "line_item" in query.group_by:
        raise ApiError("invalid_value", "'group_by' of usage can't be 'line_item'; costs can.", param="group_by")
    page = await _page(asked, query)
    buckets = [
        UsageBucket(
            start_time=start, end_time=start + page.width, results=[_usage(row) for row in page.rows.get(start, [])]
        )
        for start in page.starts
    ]
    return json_response(UsagePage(data=buckets, has_more=page.next_page is not None, next_page=page.next_page))


@get("/v1/costs")
async def get_costs(request: Request[Any, Any, Any]) -> Response[bytes]:
    asked = await Asked.of(request)
    page = await _page(asked, read_query(request, UsageQuery, lists=_LISTS))
    buckets = [
        CostBucket(
            start_time=start, end_time=start + page.width, results=[_cost(row) for row in page.rows.get(start, [])]
        )
        for start in page.starts
    ]
    return json_response(CostPage(data=buckets, has_more=page.next_page is not None, next_page=page.next_page))


async def _page(asked: Asked, query: UsageQuery) -> _Page:
    width = _WIDTH_S[query.bucket_width]
    first = query.start_time // width * width
    if query.page is not None:
        if not query.page.isdigit():
            raise ApiError("invalid_value", "'page' must be the 'next_page' of an earlier answer.", param="page")
        first = max(first, int(query.page) // width * width)
    end = int(time.time()) + 1 if query.end_time is None else query.end_time
    if end <= query.start_time or end - first > width * 100_000:
        raise ApiError(
            "invalid_value", "'end_time' must be after 'start_time', by at most 100,000 buckets.", param="end_time"
        )
    whole = range(first, end, width)
    starts = whole[: query.limit]
    next_page = str(whole[query.limit]) if len(whole) > query.limit else None
    rows = await _rows(asked, query, starts, width)
    return _Page(starts, width, next_page, rows)


async def _rows(asked: Asked, query: UsageQuery, starts: range, width: int) -> dict[int, list[UsageRow]]:
    if not starts:
        return {}
    only = UsageFilter(
        organization=asked.principal.organization,
        projects=tuple(query.project_ids) or None,
        keys=tuple(query.api_key_ids) or None,
        models=tuple(query.models) or None,
        modes=tuple(mode.value for mode in query.modes) or None,
    )
    async with asked.parts.pool.acquire() as connection:
        rows = await sums(
            connection,
            only,
            since=datetime.fromtimestamp(starts[0], UTC),
            until=datetime.fromtimestamp(starts[-1] + width, UTC),
            bucket=_BUCKET[query.bucket_width],
            by=[_DIMENSION[name] for name in query.group_by],
        )
    return {start: list(group) for start, group in groupby(_dated(rows), key=_start)}


def _dated(rows: Sequence[UsageRow]) -> Iterator[UsageRow]:
    return (row for row in rows if row.start is not None)


def _start(row: UsageRow) -> int:
    assert row.start is not None
    return int(row.start.timestamp())


def _usage(row: UsageRow) -> UsageResult:
    return UsageResult(
        input_tokens=row.input + row.cached_input,
        input_cached_tokens=row.cached_input,
        input_uncached_tokens=row.input,
        output_tokens=row.reasoning + row.output,
        reasoning_tokens=row.reasoning,
        num_model_requests=row.requests,
        amount_nano_usd=row.amount_nano_usd - row.credited_nano_usd,
        project_id=row.project,
        api_key_id=row.key,
        model=row.model,
        mode=None if row.mode is None else Mode(row.mode),
    )


def _cost(row: UsageRow) -> CostResult:
    nano = row.amount_nano_usd - row.credited_nano_usd
    by_class = row.token_class is not None
    tokens = row.input + row.cached_input + row.reasoning + row.output
    return CostResult(
        amount=CostAmount(value=Decimal(nano).scaleb(-9)),
        amount_nano_usd=nano,
        line_item=row.token_class.value if row.token_class is not None else None,
        project_id=row.project,
        api_key_id=row.key,
        mode=None if row.mode is None else Mode(row.mode),
        quantity=tokens if by_class else None,
        quantity_unit="tokens" if by_class else None,
    )
