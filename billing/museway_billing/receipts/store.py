"""Receipts in PostgreSQL: made when they are asked for, kept once they are signed. Never commits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import msgspec

from museway_billing.receipts.receipt import Receipt, make_receipt
from museway_billing.receipts.signing import SignedReceipt, Signer, canonical
from museway_billing.reports.store import records_of_request

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_LATEST = "select number, body, kid, signature from billing.receipt where request_id = $1 order by number desc limit 1"
_LOCK = "select pg_advisory_xact_lock(hashtextextended('billing.receipt:' || $1, 0))"
_INSERT = """
insert into billing.receipt (request_id, number, organization, body, kid, signature) values ($1, $2, $3, $4, $5, $6)
"""
_decode = msgspec.json.Decoder(Receipt).decode


async def receipt_of(
    connection: Connection, request_id: str, *, organization: str, signer: Signer
) -> SignedReceipt | None:
    """The receipt of what PostgreSQL has of a request, None where it has nothing of it for this organization.

    The same receipt every time, until there is more to say: then a new one that supersedes it. Whether all records have
    been drained is the caller's to know (`Journal.unsettled`). Opens a transaction of its own (or a savepoint).
    """
    records = await records_of_request(connection, request_id, organization)
    if not records:
        return None
    async with connection.transaction():
        await connection.execute(_LOCK, request_id)
        latest = await connection.fetchrow(_LATEST, request_id)
        known = None if latest is None else _signed(latest)
        if known is not None and make_receipt(records, supersedes=known.receipt.supersedes) == known.receipt:
            return known
        receipt = make_receipt(records, supersedes=None if known is None else known.signature)
        signed = signer.sign(receipt)
        number = 1 if latest is None else latest["number"] + 1
        await connection.execute(
            _INSERT,
            request_id,
            number,
            organization,
            canonical(receipt),
            signed.kid,
            signed.signature.encode(),
        )
    return signed


def _signed(row: asyncpg.Record) -> SignedReceipt:
    return SignedReceipt(receipt=_decode(row["body"]), kid=row["kid"], signature=row["signature"].decode())
