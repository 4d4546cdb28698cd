"""Who may pass: JSON Web Tokens signed with a shared secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr

from rtgateway.config.section import Allowed, Rule, Section
from rtgateway.config.shared_secret import (
    long_enough,
    long_enough_inside,
    read_secret,
    secret_words,
)
from rtgateway.config.units import Duration
from rtgateway.config.values import Count, FilePath

__all__ = ["MIN_SECRET_LENGTH", "Auth", "Jwt"]

MIN_SECRET_LENGTH = 32
"""Characters; RFC 7518, 3.2: a key for HS256 has at least 256 bits."""

_SECRET_WORDS = secret_words(MIN_SECRET_LENGTH)


class Jwt(Section):
    """How tokens are verified: exactly one of `secret` and `secret_file`."""

    secret: (
        Annotated[SecretStr, AfterValidator(long_enough(MIN_SECRET_LENGTH)), Allowed(_SECRET_WORDS)]
        | None
    ) = Field(
        default=None,
        description="Shared secret, at least 32 characters; better as `${JWT_SECRET}` than in "
        "the file itself.",
    )
    secret_file: (
        Annotated[FilePath, AfterValidator(long_enough_inside(MIN_SECRET_LENGTH))] | None
    ) = Field(
        default=None,
        description="File that holds the secret; line breaks at its end are not part of it.",
    )
    algorithm: Literal["HS256", "HS384", "HS512"] = Field(
        default="HS256", description="The one signature algorithm that is accepted."
    )
    issuer: str | None = Field(default=None, description="Required `iss` claim.")
    audience: str | None = Field(default=None, description="Required `aud` claim.")
    leeway: Duration = Field(
        default=0.0, le=3600, description="Tolerance for clocks that differ, in `exp` and `nbf`."
    )
    cache: Count = Field(
        default=10_000, le=10_000_000, description="Verified tokens remembered; 0 turns it off."
    )

    _key: SecretStr = PrivateAttr(default=SecretStr(""))

    def model_post_init(self, context: Any, /) -> None:
        """Take the secret from where it is; the file is read once, here."""
        if self.secret is not None:
            self._key = self.secret
        elif self.secret_file is not None:
            self._key = SecretStr(read_secret(self.secret_file))

    @property
    def key(self) -> bytes:
        """The secret's bytes, from ``secret`` or ``secret_file``. Not for any log."""
        return self._key.get_secret_value().encode()

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There is one secret."""
        given = [key for key in ("secret", "secret_file") if values.get(key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "neither"
            yield Rule("", found=found, allowed="either secret or secret_file")


class Auth(Section):
    """Authentication of requests by `Authorization: Bearer <token>`."""

    required: bool = Field(
        default=False,
        description="Every proxied request needs a valid token, unless its route says no.",
    )
    jwt: Jwt | None = Field(default=None, description="How tokens are verified.")
