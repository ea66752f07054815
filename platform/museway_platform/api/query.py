"""A query string into a typed Struct, or a 400 that names the parameter."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, TypeVar, cast

import msgspec
from litestar import Request

from museway_platform.api.errors import ApiError

T = TypeVar("T")


def read_query(request: Request[Any, Any, Any], shape: type[T], *, lists: AbstractSet[str] = frozenset()) -> T:
    """The query as `shape`; those of `lists` may repeat, as `name` or `name[]`. Raises ApiError 400."""
    fields: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        name = name.removesuffix("[]")
        if name in lists:
            cast("list[str]", fields.setdefault(name, [])).append(str(value))
        else:
            fields[name] = value
    try:
        return msgspec.convert(fields, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _bad_query(str(error)) from None


def _bad_query(message: str) -> ApiError:
    what, _, where = message.partition(" - at `$")
    param = where.removesuffix("`").removeprefix(".").partition("[")[0] or None
    if "unknown field" in what:
        name = what.split("`")[1]
        return ApiError("unknown_parameter", f"Unknown parameter: {name!r}.", param=name)
    if "missing required field" in what:
        name = what.split("`")[1]
        return ApiError("missing_required_parameter", f"Missing required parameter: {name!r}.", param=name)
    return ApiError("invalid_value", f"Invalid value of {param!r}: {what}.", param=param)
