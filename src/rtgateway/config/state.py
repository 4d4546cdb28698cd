"""Where the state is kept that several gateways may share: in memory, or in Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from annotated_types import Le
from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    WithJsonSchema,
)

from rtgateway.config.redis_tls import RedisTls
from rtgateway.config.redis_urls import MAX_DATABASE, RedisUrl, split_redis_url
from rtgateway.config.section import Allowed, Rule, Section, Switchable, refused, switch
from rtgateway.config.sentinel import Credentials, Sentinel
from rtgateway.config.units import PositiveDuration, format_duration
from rtgateway.config.values import Count, Number

__all__ = ["MEMORY", "Leases", "State"]

MEMORY = "memory"
"""What stands for no Redis at all, in place of a URL."""

_URL_WORDS = "memory, or a URL such as redis://localhost:6379/0"
_PREFIX_WORDS = "1 to 64 letters, digits and . _ : -"
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SHORTEST = 0.1
"""Seconds; what is done more often than this would be most of what is done."""


def _url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if text == MEMORY:
        return SecretStr(MEMORY)
    try:
        split_redis_url(text)
    except ValueError as error:
        raise refused(message=str(error), allowed=_URL_WORDS) from None
    return SecretStr(text)


def _prefix(value: str) -> str:
    # Braces would be a hash tag of their own, and * [ ? \ patterns in an ACL.
    if not _PREFIX.fullmatch(value):
        raise refused(allowed=_PREFIX_WORDS)
    return value


_Url = Annotated[
    SecretStr,
    AfterValidator(_url),
    Allowed(_URL_WORDS, secret=True),
    WithJsonSchema({"type": "string", "examples": ["redis://localhost:6379/0", MEMORY]}),
]


def _long_enough(values: Mapping[str, Any], key: str) -> Iterator[Rule]:
    seconds = values.get(key)
    if isinstance(seconds, float) and 0 < seconds < _SHORTEST:
        yield Rule("", (key,), format_duration(seconds), f"at least {format_duration(_SHORTEST)}")


class Leases(Switchable):
    """Lets a gateway take units of a busy key beforehand, and decide by itself; `off` will do.

    A lease belongs to one key of one limiter. What is not spent goes back.
    """

    plural: ClassVar[str] = "leases"

    enabled: bool = Field(default=True, description="Whether units are leased.")
    duration: PositiveDuration = Field(
        default=1.0,
        le=1,
        description="Seconds of a limit's rate that all gateways together may have leased; a lease "
        "lasts for three times that.",
    )
    minimum_rate: Number = Field(
        default=2.0,
        ge=1,
        le=1_000_000,
        description="Units per second of a key at this gateway, below which Redis is asked every "
        "time.",
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """A lease lasts for some requests."""
        yield from _long_enough(values, "duration")


class _Place(Section):
    """Which Redis."""

    url: _Url | None = Field(
        default=None,
        description="`redis://user:password@host:6379/0`, `rediss://` for TLS, "
        "`unix:///path?db=0`, or `memory`. Left out: memory, unless there is `sentinel`.",
    )
    sentinel: Sentinel | None = Field(
        default=None, description="Ask these where Redis is, instead of `url`."
    )
    db: Annotated[Count, Le(MAX_DATABASE)] | None = Field(
        default=None, description="Number of the database. Left out: what the URL says, or 0."
    )


class State(Credentials, _Place):
    """Where rate limits, bans, lists and shared circuits are kept; the URL or `memory` will do.

    In memory they hold for this process. In Redis they hold for all gateways with the same Redis
    and the same `prefix`, and while it can't be reached each gateway goes on by itself.
    """

    tls: RedisTls | None = Field(
        default=None,
        description="How Redis and the gateway prove who they are, the sentinels too unless they "
        "have `tls` of their own. With `rediss` it may be left out; with `sentinel`, `on` or a "
        "mapping turns TLS on.",
    )
    prefix: Annotated[str, AfterValidator(_prefix), Allowed(_PREFIX_WORDS)] = Field(
        default="rtgateway",
        description="In braces, the beginning of all keys and channels. Gateways with the same "
        "one share their state.",
    )
    timeout: PositiveDuration = Field(
        default=0.05, le=10, description="Longest wait for an answer while a request waits for it."
    )
    connect_timeout: PositiveDuration = Field(
        default=1.0, le=60, description="Until a connection is up, TLS and password included."
    )
    connections: Count = Field(
        default=2, ge=1, le=64, description="Connections for commands, besides one for news."
    )
    heartbeat: PositiveDuration = Field(
        default=1.0,
        le=60,
        description="How often a gateway says that it is there; after five without it is not "
        "counted any more.",
    )
    max_keys: Count = Field(
        default=1_000_000,
        ge=1000,
        le=100_000_000,
        description="Keys that one limiter remembers in memory; the least recently used are "
        "forgotten first.",
    )
    leases: Leases = Field(default=Leases(), description="Decisions without asking Redis.")

    _parts: RedisUrl | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Split the URL once; it is valid by now."""
        super().model_post_init(context)
        if self.url is not None and (text := self.url.get_secret_value()) != MEMORY:
            self._parts = split_redis_url(text)
            if not self.key:
                self._key = self._parts.password

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """Bare text is a URL, or the word ``memory``."""
        return {"url": value} if isinstance(value, str) else value

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There is one place, and what belongs to it is said once."""
        parts = _split(values.get("url"))
        yield from super().rules({**values, "password": _password_of(values, parts)})
        yield from _long_enough(values, "heartbeat")
        has_url, has_sentinel = (values.get(key) is not None for key in ("url", "sentinel"))
        if has_url and has_sentinel:
            yield Rule("", found="url and sentinel", allowed="either of them, or neither")
        for key in ("username", "password", "password_file", "db", "tls"):
            given = _tls_of(values) if key == "tls" else values.get(key) is not None
            if given and not has_url and not has_sentinel:
                yield Rule("no Redis at all", (key,), allowed="url or sentinel, too")
        if parts is not None:
            yield from _said_twice(values, parts)

    @property
    def shared(self) -> bool:
        """Whether there is a Redis."""
        return self._parts is not None or self.sentinel is not None

    @property
    def host(self) -> str:
        """Host of Redis, IPv6 without brackets; empty with ``unix``, `sentinel` and memory."""
        return self._parts.host if self._parts else ""

    @property
    def port(self) -> int:
        """Port of Redis, where there is a ``host``; else 0."""
        return self._parts.port if self._parts else 0

    @property
    def unix(self) -> str:
        """Path of its Unix socket; empty without."""
        return self._parts.unix if self._parts else ""

    @property
    def database(self) -> int:
        """Number of the database, wherever it was given."""
        in_url = self._parts.db if self._parts else None
        return self.db or in_url or 0

    @property
    def tls_of_redis(self) -> RedisTls | None:
        """How TLS is spoken with Redis; None: not at all."""
        if self._parts is not None:
            return (self.tls or RedisTls()) if self._parts.secure else None
        return _if_on(self.tls) if self.shared else None

    @property
    def tls_of_sentinels(self) -> RedisTls | None:
        """The same with sentinels; None where there are none."""
        if self.sentinel is None:
            return None
        return _if_on(self.sentinel.tls or self.tls)

    @property
    def user(self) -> str:
        """Name of the ACL user, wherever it was given; empty: the default user."""
        return self.username or (self._parts.user if self._parts else "")

    @property
    def label(self) -> str:
        """Where the state is, for logs: without user name and password."""
        if self.sentinel is not None:
            return f"{self.sentinel.master} at {', '.join(self.sentinel.nodes)}"
        if not self._parts:
            return MEMORY
        if self.unix:
            return f"unix://{self.unix}?db={self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' * self._parts.secure}://{host}:{self.port}/{self.database}"


def _split(url: object) -> RedisUrl | None:
    """The parts of a URL that may not be validated yet."""
    text = url.get_secret_value() if isinstance(url, SecretStr) else url
    try:
        return split_redis_url(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _password_of(values: Mapping[str, Any], parts: RedisUrl | None) -> Any:
    """Something true where the section has a password; the URL's counts for its user."""
    own = values.get("password")
    if own or values.get("password_file"):
        return own
    return parts.password.get_secret_value() if parts else None


def _said_twice(values: Mapping[str, Any], parts: RedisUrl) -> Iterator[Rule]:
    password = parts.password.get_secret_value()
    for key, in_url in (
        ("username", bool(parts.user)),
        ("password", bool(password)),
        ("password_file", bool(password)),
        ("db", parts.db is not None),
    ):
        if in_url and values.get(key) is not None:
            yield Rule("in the URL, too", (key,), allowed="one of them")
    own = values.get("password") or values.get("password_file")
    if parts.user and not password and not own:
        yield Rule("a user name without a password", ("url",), allowed="a password, too")
    tls = _tls_of(values)
    if tls and not parts.secure:
        yield Rule("no TLS, as the URL does not begin with rediss", ("tls",), allowed="rediss://")
    if tls is False and parts.secure:
        yield Rule("off, though the URL begins with rediss", ("tls",), allowed="redis://")


def _if_on(tls: RedisTls | None) -> RedisTls | None:
    return tls if tls is not None and tls.enabled else None


def _tls_of(values: Mapping[str, Any]) -> bool | None:
    """Whether the section, which may not be validated yet, wants TLS; None if it does not say."""
    tls = values.get("tls")
    enabled = tls.get("enabled", True) if isinstance(tls, Mapping) else tls
    if isinstance(tls, RedisTls):
        return tls.enabled
    return None if tls is None else switch(enabled) is not False
