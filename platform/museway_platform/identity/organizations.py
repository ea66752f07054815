"""What the store keeps of organizations, projects and keys, as Structs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from museway_engine.completion import Mode

Role = Literal["owner", "admin", "developer", "billing", "viewer"]


class Organization(Struct, frozen=True, kw_only=True):
    """`allowance_nano_usd`: how far its balance may go below zero."""

    id: str
    name: str
    plan: str
    state: Literal["active", "suspended"]
    allowance_nano_usd: int
    created: datetime


class Project(Struct, frozen=True, kw_only=True):
    id: str
    organization: str
    name: str
    state: Literal["active", "archived"]
    default_mode: Mode | None
    created: datetime


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key without its secrets. `last_used` is up to a minute behind, None for never."""

    id: str
    organization: str
    project: str
    name: str
    live: bool
    scopes: tuple[str, ...]
    state: Literal["active", "revoked"]
    created: datetime
    revoked: datetime | None
    last_used: datetime | None


class NewKey(Struct, frozen=True):
    """A key and the one time its secret is seen. Not to be logged."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"NewKey(key={self.key!r}, secret='***')"


class Member(Struct, frozen=True, kw_only=True):
    person: str
    email: str
    role: Role
    created: datetime


class NotFound(Exception):
    """There is no such organization, project, key or plan."""

    def __init__(self, kind: str, subject: str) -> None:
        super().__init__(f"{kind} {subject} does not exist")
        self.kind = kind
        self.subject = subject


class NameTaken(Exception):
    """The organization already has a project of this name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"a {kind} named {name!r} exists")
        self.kind = kind
        self.name = name
