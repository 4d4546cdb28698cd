"""How an instance of a service is picked for a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr

from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.shared_secret import (
    long_enough,
    long_enough_inside,
    read_secret,
    secret_words,
)
from rtgateway.config.units import Duration
from rtgateway.config.values import FilePath, Number, Share, Token, is_token

__all__ = ["Balance", "Strategy"]

Strategy = Literal[
    "least_load",
    "round_robin",
    "random",
    "least_connections",
    "p2c",
    "consistent_hash",
    "sticky",
]

_MIN_SECRET_LENGTH = 16
"""Characters: 128 bits of a random one; what it signs is worth less than a token."""
_HASH_WORDS = "client_ip, path, header:NAME or cookie:NAME"
_BOUND_WORDS = "0, or a number from 1 to 100"


def _hash(value: str) -> str:
    kind, colon, name = value.partition(":")
    named = kind in ("header", "cookie") and is_token(name)
    if not named and (colon or kind not in ("client_ip", "path")):
        raise refused(allowed=_HASH_WORDS)
    return value


def _bound(value: float) -> float:
    if value and not 1 <= value <= 100:
        raise refused(allowed=_BOUND_WORDS)
    return value


class Balance(Section):
    """How an instance is picked; the bare name of a strategy will do.

    `least_load`: fewest requests in flight, then lowest latency. `round_robin`: in turn, by
    weight. `random`: by weight. `least_connections`: fewest requests and streams in flight for
    its weight. `p2c`: the better of two picked at random, by latency and load.
    `consistent_hash`: the same instance for the same key, as long as it is there. `sticky`: the
    instance that a signed cookie names; the first time, and when it is not available, the least
    loaded.
    """

    strategy: Strategy = Field(default="least_load", description="How an instance is picked.")
    hash: Annotated[str, AfterValidator(_hash), Allowed(_HASH_WORDS)] = Field(
        default="client_ip", description="Key of `consistent_hash`."
    )
    bound: Annotated[Number, AfterValidator(_bound), Allowed(_BOUND_WORDS)] = Field(
        default=1.25,
        description="With `consistent_hash`, an instance gets at most this many times the average "
        "in flight, then the next one takes over; 0 is unbounded.",
    )
    cookie: Token = Field(default="rtgateway_instance", description="Name of the `sticky` cookie.")
    secret: (
        Annotated[
            SecretStr,
            AfterValidator(long_enough(_MIN_SECRET_LENGTH)),
            Allowed(secret_words(_MIN_SECRET_LENGTH)),
        ]
        | None
    ) = Field(
        default=None,
        description="Signs the cookie; at least 16 characters. Several gateways need the same. "
        "Left out: a random one, so that a restart issues new cookies.",
    )
    secret_file: (
        Annotated[FilePath, AfterValidator(long_enough_inside(_MIN_SECRET_LENGTH))] | None
    ) = Field(default=None, description="File that holds the secret.")
    cookie_max_age: Duration = Field(
        default=0.0, description="Lifetime of the cookie; 0: until the browser is closed."
    )
    slow_start: Duration = Field(
        default=10.0,
        le=3600,
        description="An instance that is new or has recovered gets its full share after this "
        "time; 0 is at once.",
    )
    panic_threshold: Share = Field(
        default=0.0,
        description="When a smaller share of the instances is available, all are used; 0 is off.",
    )

    _secret: SecretStr | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Take the secret from where it is; the file is read once, here."""
        if self.secret_file is not None:
            self._secret = SecretStr(read_secret(self.secret_file))
        else:
            self._secret = self.secret

    @property
    def secret_bytes(self) -> bytes | None:
        """The secret's bytes, from ``secret`` or ``secret_file``, if any. Not for any log."""
        return None if self._secret is None else self._secret.get_secret_value().encode()

    @property
    def hash_by(self) -> tuple[str, str]:
        """Kind and name of the key: ``("header", "X-User")``; the name may be empty."""
        kind, _, name = self.hash.partition(":")
        return kind, name

    @classmethod
    def spelled_out(cls, value: Any) -> Any:
        """A bare name is a strategy."""
        return {"strategy": value} if isinstance(value, str) else value

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There is at most one secret."""
        if values.get("secret") is not None and values.get("secret_file") is not None:
            found, allowed = "secret and secret_file", "either of them, or none"
            yield Rule("", found=found, allowed=allowed)
