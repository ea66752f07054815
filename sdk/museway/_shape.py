"""What every generated type stands on."""

from __future__ import annotations

from msgspec import Struct


class Shape(Struct, omit_defaults=True):
    """A JSON object of the API. An absent field is None, and what is None is not sent; unknown fields are ignored, so
    that an older SDK reads a newer server."""
