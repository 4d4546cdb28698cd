"""Whom limits and bans are about: ``ip:<address>`` and ``identity:<subject of a token>``."""

from __future__ import annotations

from ipaddress import ip_address

from rtgateway.gateway.limits.keys import ip_key, subject_key
from rtgateway.web.admin.parameters import wrong

__all__ = ["client_of", "key_of"]

_LONGEST = 256
"""Characters."""


def client_of(text: object) -> str:
    """A client in the words that limiters and bans use: an IPv6 address is its /64 network.

    :raises GatewayError: 400, it is none.
    """
    kind, _, value = _text(text).partition(":")
    if kind == "ip" and value == "local":
        return ip_key("")
    if kind == "ip":
        value = value.strip("[]").removesuffix("/64" if ":" in value else "/32")
        try:
            # Written as clients' addresses are; there are many ways to write an IPv6 address.
            return ip_key(str(ip_address(value)))
        except ValueError:
            raise wrong("subject names no IP address behind ip:") from None
    if kind == "identity" and value:
        return subject_key(value)
    raise wrong("subject has to be ip:<address> or identity:<subject of a token>")


def key_of(text: object) -> str:
    """The same, but it may be any other key that a limiter counts by too.

    :raises GatewayError: 400, it is nothing that could be one.
    """
    subject = _text(text)
    # Each part of a key of several has its kind; a bar may also be a subject's own (`auth0|17`).
    combined = "|" in subject and all(":" in part for part in subject.split("|"))
    if subject.startswith(("ip:", "identity:")) and not combined:
        return client_of(subject)
    if not subject.isascii():
        raise wrong("subject is no key of a limiter")
    return subject


def _text(text: object) -> str:
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST or not text.isprintable():
        raise wrong(f"subject has to be a text of 1 to {_LONGEST} printable characters")
    return text
