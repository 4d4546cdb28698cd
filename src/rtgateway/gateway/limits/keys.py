"""Whom a limiter counts: the key of a request, by the words of the configuration.

A key is ``kind:value``, or several joined by ``|``; ``~`` and a name follow where somebody has
numbers of their own and the key may be that of others, too. It ends up in Redis and on admin pages,
so that it is of bounded length and plain text, and what may be a secret is told by its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from rtgateway.net.gate import network_of

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = [
    "Key",
    "fixed_key",
    "ip_key",
    "is_about",
    "make_key",
    "of_address",
    "of_client",
    "own_key",
    "subject_key",
]

Key = Callable[["Exchange"], str]

_LONGEST = 64
"""Characters of a value that is told as it is."""

_SECRET_WORDS = (
    b"auth",
    b"cookie",
    b"credential",
    b"jwt",
    b"key",
    b"pass",
    b"secret",
    b"session",
    b"sid",
    b"token",
)


@lru_cache(maxsize=16_384)
def ip_key(client_ip: str) -> str:
    """The key of an address, or of its /64 network if it is IPv6; ``""`` is a local socket."""
    return f"ip:{network_of(client_ip)}" if client_ip else "ip:local"


@lru_cache(maxsize=16_384)
def subject_key(subject: str) -> str:
    """The key of the subject of a token."""
    return f"identity:{_plain(subject)}"


def of_client(exchange: Exchange) -> str:
    """Who is to blame for a request: whose token it has, or else its address."""
    identity = exchange.identity
    if identity is not None and identity.subject:
        return subject_key(identity.subject)
    return ip_key(exchange.client_ip)


def of_address(exchange: Exchange) -> str:
    """The address that a request is from."""
    return ip_key(exchange.client_ip)


def make_key(parts: Sequence[tuple[str, str]], route: str, service: str) -> Key:
    """What a limiter counts requests by on one route.

    Who has no identity, header or claim to be counted by is counted by address: to leave something
    out must not be a way around a limit.

    :param parts: ``(kind, name)``: kinds ``ip``, ``identity``, ``service``, ``route``, ``global``,
        and ``header`` and ``claim`` with a name.
    """
    keys = [_key(kind, name, route, service) for kind, name in parts]
    if len(keys) == 1:
        return keys[0]
    return lambda exchange: "|".join([key(exchange) for key in keys])


def _key(kind: str, name: str, route: str, service: str) -> Key:
    match kind:
        case "ip":
            return of_address
        case "identity":
            return of_client
        case "header":
            return _of_header(name.lower().encode())
        case "claim":
            return _of_claim(name)
        case _:
            value = fixed_key(kind, route, service)
            return lambda exchange: value


def fixed_key(kind: str, route: str, service: str) -> str:
    """The key of all who ask on one route: kinds ``service``, ``route``, ``global``."""
    if kind == "service":
        return f"service:{service}"
    if kind == "route":
        # The built-in routes are one for each service.
        return f"route:{_plain(route.replace('/:service', f'/{service}'))}"
    return "global"


def _of_header(name: bytes) -> Key:
    label = name.decode()
    secret = any(word in name for word in _SECRET_WORDS)

    def key(exchange: Exchange) -> str:
        values = set(exchange.values(name))
        # Of two fields nobody knows which one the service takes: a second one must not be a way to
        # another key.
        if len(values) != 1 or not (value := values.pop()):
            return ip_key(exchange.client_ip)
        return f"{label}:{_digest(value) if secret else _plain(value.decode('latin-1'))}"

    return key


def _of_claim(name: str) -> Key:
    def key(exchange: Exchange) -> str:
        value = exchange.identity.claims.get(name) if exchange.identity is not None else None
        if not isinstance(value, str | int) or value == "":
            return of_client(exchange)
        return f"{name}:{_plain(str(value))}"

    return key


def own_key(key: str, whose: str) -> str:
    """The key of somebody with numbers of their own, where ``key`` may be that of others, too."""
    return f"{key}~{_plain(whose)}"


def is_about(key: str, subject: str) -> bool:
    """Whether ``subject`` is a part of a key, the whole, or whose own key it is."""
    shared, _, whose = key.partition("~")
    return subject in (key, whose) or subject in shared.split("|")


def _plain(value: str) -> str:
    """``value``, or its digest if it is long, or not plain ASCII, or could be taken for a key."""
    plain = len(value) <= _LONGEST and value.isascii() and value.isprintable()
    if plain and "|" not in value and "~" not in value:
        return value
    return _digest(value.encode("utf-8", "surrogatepass"))


def _digest(value: bytes) -> str:
    return "#" + blake2b(value, digest_size=12).hexdigest()
