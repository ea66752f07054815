"""What every test of limits can ask for."""

from __future__ import annotations

from limiters import new_world

__all__ = ["new_world"]
