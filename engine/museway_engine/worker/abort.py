"""Ending a call at its worker. SGLang matches rids by prefix; ours are of fixed width, none the prefix of another."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from museway_engine.worker.client import Client
from museway_engine.worker.connection import ConnectionFailed

_REPEAT_S = 0.25


class _Abort(Struct):
    rid: str


async def abort(client: Client, rid: str) -> bool:
    """Ask the worker to end the call. False: it can't be asked (a router, or gone); dropping the connection aborts there."""
    body = msgspec.json.encode(_Abort(rid))
    try:
        async with client.aborting:
            reply = await client.request("POST", "/abort_request", body, urgent=True)
    except ConnectionFailed:
        return False
    return reply.status < 400


async def keep_aborting(client: Client, rid: str) -> None:
    """Abort until cancelled; returns when the worker can't be asked.

    Once is not enough: an abort that overtakes its own request finds no such rid, is answered 200, and nothing ends.
    """
    while True:
        if not await abort(client, rid):
            return
        await asyncio.sleep(_REPEAT_S)
