"""Who a request comes from."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from museway_engine.completion import Mode


class Principal(Struct, frozen=True, gc=False, kw_only=True):
    """A key that may ask now, and whose it is. `default_mode` is the project's, None where it has none. `scopes` is what
    the key is limited to; empty means that it is not limited. `denied` are this key's, project's and organization's
    denials (`mode:<mode>`, `model:<model>`). Says nothing of limits or money."""

    organization: str
    project: str
    key: str
    plan: str
    live: bool
    default_mode: Mode | None = None
    scopes: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    @property
    def owners(self) -> tuple[str, str, str]:
        """Organization, project, key."""
        return self.organization, self.project, self.key

    def may(self, scope: str) -> bool:
        return not self.scopes or scope in self.scopes


Reason = Literal["malformed", "unknown", "revoked", "expired", "suspended"]


class Unauthenticated(Struct, frozen=True):
    """Why a secret was refused."""

    reason: Reason
