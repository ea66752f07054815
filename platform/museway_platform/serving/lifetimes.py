"""Work that must be finished even when the request around it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def uninterrupted(work: Coroutine[None, None, T], timeout_s: float) -> T:
    """Run `work` to its end; a cancellation that comes meanwhile is raised after it. TimeoutError after `timeout_s`."""
    task = asyncio.ensure_future(asyncio.wait_for(work, timeout_s))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            if task.cancelled():
                raise
            cancelled = exc
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
