"""The arguments of `usage` and `costs`, once for both clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Required, TypedDict


class Query(TypedDict, total=False):
    """Times in seconds since the epoch, `end_time` not included; absent filters are "all". `limit` is in buckets."""

    start_time: Required[int]
    end_time: int
    bucket_width: Literal["1h", "1d"]
    project_ids: Sequence[str]
    api_key_ids: Sequence[str]
    models: Sequence[str]
    modes: Sequence[Literal["instant", "thinking", "contemplating"]]
    limit: int
    page: str


class UsageQuery(Query, total=False):
    group_by: Sequence[Literal["project_id", "api_key_id", "model", "mode"]]


class CostQuery(Query, total=False):
    """`line_item` is the token class."""

    group_by: Sequence[Literal["project_id", "api_key_id", "model", "mode", "line_item"]]
