"""Every setting: `MUSEWAY_<NAME>` in the environment, over `<name>` in `museway.toml`, over the default that stands here.

The file is the one that MUSEWAY_CONFIG names, else `museway.toml` in the working directory where there is one. A name that
is not here is refused: a mistyped setting that is ignored is worse than one that stops the start. An empty value is none.
"""

from __future__ import annotations

import difflib
import hmac
import ipaddress
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

PREFIX = "MUSEWAY_"
_ELSEWHERE = frozenset({"CONFIG", "API_KEY", "BASE_URL"})
"""Names with our prefix that are not settings: where the file is, and the SDK's two."""
_TESTS = "TEST_"
_LISTS = frozenset({"engine_urls", "trusted_proxies", "secret_keys", "receipt_keys"})
_SECRET_LENGTH_MIN = 32

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class SettingsError(Exception):
    """A setting that cannot be used: one line that names it and what would be right. Commands exit with 2."""


class Secret:
    """Text that does not show itself in a log, a traceback or a repr."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/museway")
    named = os.environ.get("XDG_DATA_HOME", "")
    return (Path(named) if named.startswith("/") else Path.home() / ".local" / "share") / "museway"


def _default_cache() -> Path:
    return Path("/var/cache/museway") if os.geteuid() == 0 else Path.home() / ".cache" / "museway"


class ServedModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the catalogue that MUSEWAY_MODELS names: a table per served model. `profile` and `context` win over
    what a worker says of itself."""

    urls: tuple[str, ...]
    profile: str | None = None
    context: Positive | None = None


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of the machine and of the services around it. What is a product rule (prices, plans, limits) is data in the
    database. Parts of the platform are given the values they need, never this object. Sizes are bytes, times seconds."""

    database_url: Secret | None = None
    """PostgreSQL. None: an embedded one in `data_dir`."""
    redis_url: Secret | None = None
    """Redis or Valkey: shares limits and holds between processes. None: they live in the one gateway process."""
    engine_urls: tuple[str, ...] = ()
    """SGLang workers or routers. Empty with `up` and `demo`: one worker on this machine."""
    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "muse"
    """The name under which the model is served; its aliases are `<model>-instant`, `-thinking`, …"""
    engine_model: str = "smollm2-135m"
    """What a worker on this machine loads."""
    models: Path | None = None
    """A TOML catalogue, for more than one served model."""
    data_dir: Path = msgspec.field(default_factory=_default_data_dir)
    """Journals, and the embedded PostgreSQL with its secrets."""
    cache: Path = msgspec.field(default_factory=_default_cache)
    """The engine's environment and models; may be deleted at any time."""
    host: str = "127.0.0.1"
    port: Port = 8400
    admin_bind: str | None = None
    """`host:port` for metrics and the operator's routes, away from customers. None: beside them."""
    public_url: str | None = None
    """What customers call us, in links and callbacks. None: what their request says."""
    processes: Positive = 1
    """Gateway processes; more than one needs `redis_url`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose `x-forwarded-*` headers are believed."""
    unknown_keys_per_minute: Positive = 300
    """How many keys that nobody has one address may try; keys that are known are served all the same."""
    secret_keys: tuple[Secret, ...] = ()
    """Newest first. Cache salt, sessions, signatures and stored bodies are derived from them."""
    receipt_keys: tuple[Secret, ...] = ()
    """Newest first. Ed25519 seeds that sign receipts."""
    resume_grace_s: Seconds = 15.0
    """How long a request with an Idempotency-Key runs on for a client that is gone."""
    recovery_interval_s: Seconds = 30.0
    """How often journals of dead processes on this disk are looked for."""
    body_bytes_max: Positive = 8 << 20
    header_bytes_max: Positive = 64 << 10
    """Of one request's head; at least 8 KiB are always taken."""
    idle_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 60.0
    """How long a client may take to send a request's head."""
    queue_max: Positive = 1024
    """Requests that may be under way or waiting in one process; the next is answered 503."""
    journal_segment_bytes: Annotated[int, Meta(ge=64 << 10)] = 8 << 20
    """The journal takes disk space in such pieces, ahead of need; where it gets none, requests are answered 503."""
    drain_s: Seconds = 30.0
    """How long streams may go on after a process is told to stop."""
    stripe_api_key: Secret | None = None
    stripe_api_base: str | None = None
    stripe_webhook_secret: Secret | None = None
    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: Secret | None = None
    smtp_url: Secret | None = None
    object_store_url: Secret | None = None
    otlp_endpoint: str | None = None

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """From this process's environment, or the one given. Raises SettingsError."""
        variables = os.environ if environment is None else environment
        named = variables.get(PREFIX + "CONFIG", "")
        path = Path(named or "museway.toml")
        values: dict[str, object] = {}
        for name, value in _from_file(path, must_exist=bool(named)):
            values[name] = _parsed(name, value, f"{path}: {name}")
        for name, value in _from_environment(variables):
            values[name] = _parsed(name, value, _variable(name))
        settings = _convert(values)
        for problem in _problems(settings):
            raise SettingsError(problem)
        return settings

    def with_secrets(self) -> Settings:
        """The same with `secret_keys` and `receipt_keys`: with an embedded database they are made once, in a file of mode
        0600 in `data_dir`; else they are required, for what is made here would differ on the next machine.

        Raises SettingsError.
        """
        missing = [name for name in ("secret_keys", "receipt_keys") if not getattr(self, name)]
        if not missing:
            return self
        if self.database_url is not None:
            names = " and ".join(_variable(name) for name in missing)
            raise SettingsError(
                f"{names} must be set where MUSEWAY_DATABASE_URL is: at least 32 random characters each"
            )
        made = _generated(self.data_dir / "secrets.toml")
        return msgspec.structs.replace(self, **{name: (Secret(made[name]),) for name in missing})

    def served_models(self) -> dict[str, ServedModelSettings]:
        """The catalogue by served name; without one, `model` at `engine_urls`. Raises SettingsError."""
        if self.models is None:
            return {self.model: ServedModelSettings(urls=self.engine_urls)}
        try:
            return msgspec.toml.decode(self.models.read_bytes(), type=dict[str, ServedModelSettings])
        except (OSError, msgspec.MsgspecError) as error:
            raise SettingsError(f"{self.models}: {error}") from error

    def trusted_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [ipaddress.ip_network(network, strict=False) for network in self.trusted_proxies]

    def beside(self, *, data_dir: Path, port: int) -> Settings:
        """These settings for a stack of its own: another directory and port, and none of the database, Redis and secrets
        of the one they were made for."""
        return msgspec.structs.replace(
            self, data_dir=data_dir, port=port, database_url=None, redis_url=None, secret_keys=(), receipt_keys=()
        )

    def environment(self) -> dict[str, str]:
        """All of it as variables, secrets in clear: for the environment of a child process and for nothing else."""
        values = msgspec.structs.asdict(self.with_secrets())
        return {_variable(name): _text(value) for name, value in values.items() if value is not None and value != ()}


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, value in environment.items():
        name = variable.removeprefix(PREFIX)
        if name == variable or name in _ELSEWHERE or name.startswith(_TESTS):
            continue
        if name.lower() not in Settings.__struct_fields__ or name != name.upper():
            raise SettingsError(f"{variable} is not a setting{_nearest(name, _variable)}")
        if value.strip():
            yield name.lower(), value.strip()


def _from_file(path: Path, *, must_exist: bool) -> Iterator[tuple[str, object]]:
    try:
        values: dict[str, object] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"MUSEWAY_CONFIG names {path}, which does not exist") from None
        return
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    for name, value in values.items():
        if name not in Settings.__struct_fields__:
            raise SettingsError(f"{path}: {name} is not a setting{_nearest(name, str)}")
        if value != "":
            yield name, value


def _nearest(name: str, spell: Callable[[str], str]) -> str:
    close = difflib.get_close_matches(name.lower(), Settings.__struct_fields__, n=1, cutoff=0.5)
    return f"; did you mean {spell(close[0])}?" if close else ""


def _parsed(name: str, value: object, where: str) -> object:
    """`value` as it goes into the Struct, after trying it there alone, so that an error names its place."""
    if name in _LISTS and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        _convert({name: value})
    except msgspec.ValidationError as error:
        said = str(error).partition(" - at ")[0]
        raise SettingsError(f"{where}: {said[0].lower()}{said[1:]}") from error
    return value


def _convert(values: Mapping[str, object]) -> Settings:
    return msgspec.convert(values, Settings, strict=False, dec_hook=_decode)


def _decode(kind: type, value: object) -> object:
    if not isinstance(value, str):
        raise msgspec.ValidationError("Expected `str`")
    return Path(value).expanduser() if kind is Path else kind(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, cast("tuple[object, ...]", value)))
    return value.reveal() if isinstance(value, Secret) else str(value)


def _problems(settings: Settings) -> Iterator[str]:
    """What each value alone does not show."""
    for url in settings.engine_urls:
        if not _http(url):
            yield f"MUSEWAY_ENGINE_URLS: {url!r} is not http://host:port"
    for name in ("public_url", "stripe_api_base", "oidc_issuer", "otlp_endpoint"):
        if (url := getattr(settings, name)) is not None and not _http(url):
            yield f"{_variable(name)}: {url!r} is not an http(s) URL"
    if settings.database_url is not None and urlsplit(settings.database_url.reveal()).scheme not in _POSTGRES:
        yield "MUSEWAY_DATABASE_URL: not a postgresql:// URL"
    for network in settings.trusted_proxies:
        if not _network(network):
            yield f"MUSEWAY_TRUSTED_PROXIES: {network!r} is neither an address nor a network"
    for name in ("secret_keys", "receipt_keys"):
        if any(len(key.reveal()) < _SECRET_LENGTH_MIN for key in getattr(settings, name)):
            yield f"{_variable(name)}: a key has fewer than {_SECRET_LENGTH_MIN} characters"
    if settings.admin_bind is not None and not re.fullmatch(r".+:\d{1,5}", settings.admin_bind):
        yield f"MUSEWAY_ADMIN_BIND: {settings.admin_bind!r} is not host:port"
    if settings.redis_url is not None and urlsplit(settings.redis_url.reveal()).scheme not in _REDIS:
        yield "MUSEWAY_REDIS_URL: not a redis://, rediss:// or unix:// URL"
    if settings.admin_bind is not None:
        yield "MUSEWAY_ADMIN_BIND: not available yet; /metrics is on the gateway's own port"
    if settings.processes > 1 and settings.redis_url is None:
        yield "MUSEWAY_PROCESSES: more than one process needs MUSEWAY_REDIS_URL, which limits and holds are shared by"
    oidc = (settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret)
    if any(oidc) and not all(oidc):
        yield "MUSEWAY_OIDC_ISSUER, MUSEWAY_OIDC_CLIENT_ID and MUSEWAY_OIDC_CLIENT_SECRET go together"
    if settings.models is not None and not settings.models.is_file():
        yield f"MUSEWAY_MODELS: {settings.models} does not exist"


_REDIS = ("redis", "rediss", "unix")
_POSTGRES = ("postgresql", "postgres")


def _http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)


def _network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _generated(path: Path) -> dict[str, str]:
    """The secrets of `path`, made if it is new. Two processes at once end up with the same: the file gets its name by a
    link, which the second cannot make."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        text = "".join(f'{name} = "{secrets.token_hex(32)}"\n' for name in ("secret_keys", "receipt_keys"))
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(
                "# Made here once. Without it sessions, stored answers and receipts of before are worth nothing.\n"
            )
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), dict[str, str])
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
