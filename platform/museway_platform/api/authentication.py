"""Who asks: the key of a request, before a byte of its body is parsed."""

from __future__ import annotations

from litestar.types import Scope

from museway_platform.api.address import Addresses
from museway_platform.api.connection import header
from museway_platform.api.errors import invalid_api_key, too_many_unknown_keys
from museway_platform.identity import keys
from museway_platform.identity.directory import Directory
from museway_platform.identity.principal import Principal


class Authentication:
    def __init__(self, directory: Directory, addresses: Addresses) -> None:
        self._directory = directory
        self._addresses = addresses

    async def principal(self, scope: Scope) -> Principal:
        """The caller, from `Authorization: Bearer`, `x-api-key` or `api-key`.

        Raises ApiError 401 (missing, malformed, unknown, revoked, expired), 429 where too many unknown keys came from the
        caller's address, DirectoryUnavailable.
        """
        secret = _secret(scope)
        if secret is None:
            raise invalid_api_key("missing")
        return self._directory.cached(secret) or await self._look_up(scope, secret)

    async def _look_up(self, scope: Scope, secret: str) -> Principal:
        if not keys.well_formed(secret):
            raise invalid_api_key("malformed")
        address = self._addresses.of(scope)
        wait_s = self._addresses.wait_s(address)
        if wait_s:
            raise too_many_unknown_keys(wait_s)
        answer = await self._directory.authenticate(secret)
        if isinstance(answer, Principal):
            return answer
        self._addresses.tried_unknown(address)
        raise invalid_api_key(answer.reason)


def _secret(scope: Scope) -> str | None:
    authorization = header(scope, b"authorization")
    if authorization is not None:
        kind, _, value = authorization.partition(b" ")
        return value.strip().decode("latin-1") if kind.lower() == b"bearer" else None
    key = header(scope, b"x-api-key") or header(scope, b"api-key")
    return None if key is None else key.decode("latin-1")
