"""What a client is made with."""

from __future__ import annotations

import os
import platform
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from museway._exchange import Attempt, new_key
from museway._version import __version__
from museway.errors import ConfigurationError
from museway.options import CallOptions
from museway.retry import RetryPolicy

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8400"


class Settings(Struct, frozen=True, kw_only=True):
    """`base_url` has no path `/v1`. `timeout_s` is how long a server may be silent, not how long an answer may take."""

    api_key: str
    base_url: str
    timeout_s: float
    connect_timeout_s: float
    retry: RetryPolicy
    proxy: str | None

    def __repr__(self) -> str:
        """Without the key."""
        return f"Settings(base_url={self.base_url!r}, api_key={self.api_key[:8]!r}…)"

    def headers(self) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.api_key}",
            "user-agent": f"museway-python/{__version__} python/{platform.python_version()}",
        }


def make_settings(
    api_key: str | None,
    *,
    base_url: str | None,
    timeout_s: float,
    connect_timeout_s: float,
    retry: RetryPolicy,
    proxy: str | None,
) -> Settings:
    """Arguments over `MUSEWAY_API_KEY` and `MUSEWAY_BASE_URL`. Raises ConfigurationError."""
    key = api_key or os.environ.get("MUSEWAY_API_KEY")
    if not key:
        raise ConfigurationError("No API key: give api_key, or set MUSEWAY_API_KEY.")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError("The API key has characters that no key has; was it cut or quoted?")
    return Settings(
        api_key=key,
        base_url=_base_url(base_url or os.environ.get("MUSEWAY_BASE_URL") or DEFAULT_BASE_URL),
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
        retry=retry,
        proxy=proxy,
    )


def _base_url(text: str) -> str:
    """Takes the URL with and without `/v1`, which other clients want."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(f"The base URL {text!r} is not an http or https URL.")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def make_attempt(settings: Settings, options: CallOptions, *, stream: bool) -> Attempt:
    return Attempt(
        policy=settings.retry,
        headers=settings.headers(),
        timeout_s=options.get("timeout_s"),
        idempotency_key=options.get("idempotency_key") or new_key(),
        stream=stream,
    )
