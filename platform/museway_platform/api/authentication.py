"""Who asks: the key of a request, before a byte of its body is parsed."""

from __future__ import annotations

from litestar.types import Scope

from museway_platform.api.connection import header
from museway_platform.api.errors import invalid_api_key
from museway_platform.identity.directory import Directory
from museway_platform.identity.principal import Principal


class Authentication:
    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def principal(self, scope: Scope) -> Principal:
        """The caller, from `Authorization: Bearer`, `x-api-key` or `api-key`.

        Raises ApiError 401 (missing, malformed, unknown, revoked, expired), DirectoryUnavailable.
        """
        secret = _secret(scope)
        if secret is None:
            raise invalid_api_key("missing")
        known = self._directory.cached(secret)
        if known is not None:
            return known
        answer = await self._directory.authenticate(secret)
        if not isinstance(answer, Principal):
            raise invalid_api_key(answer.reason)
        return answer


def _secret(scope: Scope) -> str | None:
    authorization = header(scope, b"authorization")
    if authorization is not None:
        kind, _, value = authorization.partition(b" ")
        return value.strip().decode("latin-1") if kind.lower() == b"bearer" else None
    key = header(scope, b"x-api-key") or header(scope, b"api-key")
    return None if key is None else key.decode("latin-1")
