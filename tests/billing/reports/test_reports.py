"""Sums by hour are the sums of the records, and the export says every record in the contract's words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from calls import NOW, finished, identity, record
from museway_billing.journal.store import insert_usage
from museway_billing.reports import Bucket, Dimension, UsageFilter
from museway_billing.reports.export import PAGE_RECORDS, export, export_line
from museway_billing.reports.rollup import Rollup, roll_up
from museway_billing.reports.store import Connection, add_rollups, records_of_request, usage
from museway_billing.timestamp import rfc3339, to_datetime, to_microseconds
from museway_billing.usage import State, TokenClass, UsageRecord
from museway_platform.database.pool import Pool

pytestmark = pytest.mark.anyio

EVERYBODY = UsageFilter(organization=None)
DAY = datetime(2025, 3, 1, tzinfo=UTC)


def spread() -> list[UsageRecord]:
    """Two days, two organizations, two modes; request 7 has two calls."""
    return [
        finished(identity(1, created=DAY)),
        finished(identity(2, created=DAY + timedelta(hours=1), mode="instant")),
        finished(identity(3, created=DAY + timedelta(hours=1), organization="org_b")),
        finished(identity(7, created=DAY + timedelta(days=1), request=7), credit=True),
        finished(identity(8, created=DAY + timedelta(days=1), request=7)),
    ]


async def stored(connection: Connection, records: Sequence[UsageRecord]) -> None:
    async with connection.transaction():
        inserted = await insert_usage(connection, records)
        await add_rollups(connection, roll_up(inserted.records, inserted.requests))


async def test_a_record_comes_back_as_it_was_stored(pool: Pool) -> None:
    unknown = structs.replace(record(2), state=State.UNKNOWN, output=None, unbilled=None, worker=None, lines=())
    async with pool.acquire() as connection:
        for one in (record(1), unknown, structs.replace(record(3), request_id=unknown.request_id)):
            await stored(connection, [one])
            assert one in await records_of_request(connection, one.request_id, "org_a")
        assert await records_of_request(connection, unknown.request_id, "org_b") == []


async def test_a_request_is_counted_once_however_its_calls_are_batched(pool: Pool) -> None:
    async with pool.acquire() as connection:
        for one in spread():
            await stored(connection, [one])
        (total,) = await usage(connection, EVERYBODY, since=DAY, until=DAY + timedelta(days=2))
    assert total.requests == 4
    assert total.amount_nano_usd == sum(one.amount_nano_usd for one in spread())
    assert total.credited_nano_usd == spread()[3].credited_nano_usd > 0
    assert (total.input, total.cached_input, total.reasoning, total.output) == (500, 100, 1500, 400)


async def test_grouping_and_filters(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await stored(connection, spread())
        until = DAY + timedelta(days=2)
        by_mode = await usage(connection, EVERYBODY, since=DAY, until=until, by=[Dimension.MODE])
        assert [(row.mode, row.requests) for row in by_mode] == [("instant", 1), ("thinking", 3)]
        assert all(row.start is None and row.project is None for row in by_mode)
        by_day = await usage(connection, EVERYBODY, since=DAY, until=until, bucket=Bucket.DAY)
        assert [(row.start, row.requests) for row in by_day] == [(DAY, 3), (DAY + timedelta(days=1), 1)]
        by_hour = await usage(connection, EVERYBODY, since=DAY, until=DAY + timedelta(hours=1), bucket=Bucket.HOUR)
        assert [row.requests for row in by_hour] == [1]
        only = UsageFilter(organization="org_a", modes=("thinking",), keys=("key_org_a",), models=("muse",))
        mine = await usage(connection, only, since=DAY, until=until, by=[Dimension.ORGANIZATION, Dimension.KEY])
        assert [(row.organization, row.key, row.requests) for row in mine] == [("org_a", "key_org_a", 2)]
        assert (
            await usage(connection, UsageFilter(organization="org_c"), since=DAY, until=until, by=[Dimension.KEY]) == []
        )
        none = UsageFilter(organization="org_a", projects=())
        assert await usage(connection, none, since=DAY, until=until, by=[Dimension.PROJECT]) == []


async def test_by_class_the_amounts_add_up_to_the_same(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await stored(connection, spread())
        until = DAY + timedelta(days=2)
        rows = await usage(connection, EVERYBODY, since=DAY, until=until, by=[Dimension.CLASS])
        (total,) = await usage(connection, EVERYBODY, since=DAY, until=until)
    assert {row.token_class for row in rows} == set(TokenClass)
    assert sum(row.amount_nano_usd for row in rows) == total.amount_nano_usd
    assert sum(row.reasoning for row in rows) == total.reasoning


async def test_nothing_stored_sums_to_nothing(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert await usage(connection, EVERYBODY, since=DAY, until=NOW) == []


def test_rolling_up_in_parts_is_rolling_up_at_once() -> None:
    records = spread()
    requests = {one.request_id for one in records}
    whole = dict(roll_up(records, requests))
    parts = dict(roll_up(records[:2], requests))
    seen = {one.request_id for one in records[:2]}
    for key, part in roll_up(records[2:], requests - seen):
        parts[key] = Rollup._make(a + b for a, b in zip(parts.get(key, Rollup()), part, strict=True))
    assert parts == whole
    assert list(whole) == sorted(whole)


def test_an_exported_line_has_the_contracts_keys_in_order() -> None:
    line = export_line(record(1))
    assert line.endswith(b"}\n")
    assert (
        list(json.loads(line))
        == (
            "id request_id rid organization project key mode phase agent model worker input cached_input measured_input"
            " measured_cached reasoning output unbilled state price_version amount_nano_usd credited_nano_usd created ended"
        ).split()
    )


def test_times_are_exact_to_the_microsecond() -> None:
    for microseconds in (0, 1, 999_999, 1_700_000_000_000_001, 4_102_444_799_999_999):
        assert to_microseconds(to_datetime(microseconds)) == microseconds
    assert rfc3339(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"


async def test_the_export_pages_through_everything_once_in_order(pool: Pool) -> None:
    many = [finished(identity(number, created=DAY)) for number in range(PAGE_RECORDS + 7)]
    same = structs.replace(many[0], id="use_same_moment")
    async with pool.acquire() as connection:
        await stored(connection, [*many, same])
        mine = UsageFilter(organization="org_a")
        lines = b"".join([chunk async for chunk in export(connection, mine, since=DAY, until=NOW)]).splitlines()
        ids = [json.loads(line)["id"] for line in lines]
        assert len(ids) == len(set(ids)) == PAGE_RECORDS + 8
        created = [json.loads(line)["created"] for line in lines]
        assert created == sorted(created)
        assert [
            chunk async for chunk in export(connection, UsageFilter(organization="org_b"), since=DAY, until=NOW)
        ] == []
        first = [chunk async for chunk in export(connection, mine, since=DAY, until=DAY + timedelta(microseconds=1))]
        assert len(b"".join(first).splitlines()) == 2


async def test_partitions_are_made_ahead_and_a_month_in_the_net_stays_there(pool: Pool) -> None:
    far = datetime(2031, 5, 15, tzinfo=UTC)
    async with pool.acquire() as connection:
        await stored(connection, [finished(identity(1, created=far))])
        made = await connection.fetchval("select billing.make_usage_partitions(3, $1)", far + timedelta(days=31))
        assert made == 4, "May 2031 has a row in the net: it stays, the four others are made"
        assert await connection.fetchval("select billing.make_usage_partitions(3, $1)", far + timedelta(days=31)) == 0
        await stored(
            connection, [finished(identity(2, created=far)), finished(identity(3, created=far + timedelta(days=31)))]
        )
        where = await connection.fetch(
            "select tableoid::regclass::text as part from billing.usage order by created, id"
        )
        assert [row["part"].split(".")[-1] for row in where] == ["usage_default", "usage_default", "usage_y2031m06"]
        again = await insert_usage(connection, [finished(identity(1, created=far))])
        assert again.records == []
