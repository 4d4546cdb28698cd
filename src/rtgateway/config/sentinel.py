"""Sentinels, who know where Redis is; and how the gateway proves to either who it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, SecretStr

from rtgateway.config.redis_tls import RedisTls
from rtgateway.config.section import Allowed, Rule, Section, refused
from rtgateway.config.shared_secret import long_enough_inside, read_secret
from rtgateway.config.urls import split_host_port
from rtgateway.config.values import FilePath, one_or_many

__all__ = ["Credentials", "Sentinel"]

_MASTER_WORDS = "1 to 128 letters, digits and . _ -"
_MASTER = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_NODE_WORDS = "an address such as 10.0.0.7:26379 or [fd00::7]:26379"
_SENTINEL_PORT = 26379


def _master(value: str) -> str:
    if not _MASTER.fullmatch(value):
        raise refused(allowed=_MASTER_WORDS)
    return value


def _address(text: str) -> tuple[str, int] | None:
    text = text.strip()
    return split_host_port(text) or split_host_port(f"{text}:{_SENTINEL_PORT}")


def _node(value: str) -> str:
    if _address(value) is None:
        raise refused(allowed=_NODE_WORDS)
    return value.strip()


def _none_if_empty(value: Any) -> Any:
    # An empty ${REDIS_PASSWORD:-} is no password.
    return None if value == "" else value


_Password = Annotated[
    Annotated[SecretStr, Allowed("a password", secret=True)] | None, BeforeValidator(_none_if_empty)
]
_User = Annotated[Annotated[str, MaxLen(256)] | None, BeforeValidator(_none_if_empty)]
_PasswordFile = Annotated[FilePath, AfterValidator(long_enough_inside(1))]
_Node = Annotated[str, AfterValidator(_node), Allowed(_NODE_WORDS)]


class Credentials(Section):
    """Who the gateway is to a server."""

    username: _User = Field(
        default=None, description="Name of the ACL user. Left out: the default user."
    )
    password: _Password = Field(
        default=None,
        description="Its password; better as `${REDIS_PASSWORD}` than in the file itself. "
        "Empty: none.",
    )
    password_file: _PasswordFile | None = Field(
        default=None,
        description="File that holds the password; line breaks at its end are not part of it.",
    )

    _key: SecretStr = PrivateAttr(default=SecretStr(""))

    def model_post_init(self, context: Any, /) -> None:
        """Take the password from where it is; the file is read once, here."""
        if self.password is not None:
            self._key = self.password
        elif self.password_file is not None:
            self._key = SecretStr(read_secret(self.password_file))

    @property
    def user(self) -> str:
        """Name of the ACL user; empty: the default user."""
        return self.username or ""

    @property
    def key(self) -> bytes:
        """The password's bytes, wherever it was given; empty: none. Not for any log."""
        return self._key.get_secret_value().encode()

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """There is one password, and a user has it."""
        given = [key for key in ("password", "password_file") if values.get(key)]
        if len(given) > 1:
            yield Rule("", found=" and ".join(given), allowed="either of them, or none")
        if values.get("username") and not given:
            allowed = "password or password_file, too"
            yield Rule("a user name without a password", ("username",), allowed=allowed)


class _Nodes(Section):
    """Which sentinels."""

    nodes: Annotated[tuple[_Node, ...], BeforeValidator(one_or_many)] = Field(
        min_length=1,
        max_length=16,
        description="`host:port` of each; port 26379 when left out. They are asked in this order.",
    )
    master: Annotated[str, AfterValidator(_master), Allowed(_MASTER_WORDS)] = Field(
        default="mymaster", description="What they call the master."
    )
    tls: RedisTls | None = Field(
        default=None,
        description="TLS with the sentinels, where it is not the same as with the master: `off`, "
        "`on`, or a mapping. Left out: the `tls` of `state`.",
    )


# Fields of the last base come first, and where it is comes before who asks.
class Sentinel(Credentials, _Nodes):
    """Sentinels, who know which Redis is the master; `state` has what the master itself asks for.

    The gateway stays with a master until it is none any more, and then asks again.
    """

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host (IPv6 without brackets) and port of each of ``nodes``."""
        return tuple(address for node in self.nodes if (address := _address(node)))
