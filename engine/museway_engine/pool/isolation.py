"""Tenants do not meet in a worker's prefix cache (invariant I6): SGLang keeps one tree per `cache_salt`."""

from __future__ import annotations

import hashlib
import hmac


def cache_salt(secret: bytes, organization: str) -> str:
    """The salt of one organization: hex, 64 characters. Another organization can neither guess nor compute it."""
    return hmac.new(secret, b"cache-salt\0" + organization.encode(), hashlib.sha256).hexdigest()
