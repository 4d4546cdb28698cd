"""Header rules that hold for every message: what is for one hop only, what a Host may be.

Pure functions over bytes as they came off the wire, white space around values removed.
Callers: ``web.channel`` (Host), ``gateway`` (request and response heads).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

__all__ = ["HOP_BY_HOP", "connection_options", "host_name", "is_token", "valid_host"]

HOP_BY_HOP = frozenset(
    [
        # RFC 9110, 7.6.1: an intermediary removes these whether Connection lists them or not.
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        # RFC 9110, 11.7: between a client and the next proxy only.
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        # Announces trailers of a framing that ends here.
        b"trailer",
    ]
)
"""Lower-case names of fields that are never passed on."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# RFC 3986, 3.2.2: host = IP-literal / IPv4address / reg-name; reg-name is at most 255 long.
# IPvFuture and zone identifiers name nothing that a gateway could serve.
_NAME = rb"[A-Za-z0-9._~!$&'()*+,;=-]*"
_HOST = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]{2,45})\]"
    rb"|(?=[^:]{1,255}(?::|\Z))" + _NAME + rb"(?:%[0-9A-Fa-f]{2}" + _NAME + rb")*)"
    rb"(?::([0-9]{0,5}))?"
)
_MAX_PORT = 65535
_BRACKET = ord("[")


def connection_options(values: Iterable[bytes]) -> frozenset[bytes]:
    """The options that Connection fields list, in lower case.

    Fields with these names are for this hop only as well (RFC 9110, 7.6.1).

    :param values: the value of each Connection field.
    """
    value = b",".join(values)
    options = _KNOWN_OPTIONS.get(value)
    if options is None:
        listed = value.lower().split(b",")
        options = frozenset(option.strip(b" \t") for option in listed) - _NOTHING
        if len(value) <= _MAX_OPTIONS:
            if len(_KNOWN_OPTIONS) >= _MAX_OPTIONS:
                _KNOWN_OPTIONS.clear()
            _KNOWN_OPTIONS[value] = options
    return options


_NOTHING = frozenset([b""])
_KNOWN_OPTIONS: dict[bytes, frozenset[bytes]] = {}
_MAX_OPTIONS = 64
"""How many values are remembered: most messages have one of a few. Bytes of the longest, too."""


def is_token(value: bytes) -> bool:
    """Whether ``value`` is a token (RFC 9110, 5.6.2): a method, a field name, an option."""
    return _TOKEN.fullmatch(value) is not None


def valid_host(value: bytes) -> bool:
    """Whether ``value`` is a host with an optional port: RFC 3986 without userinfo, not empty."""
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    literal, port = match.groups()
    if port and int(port) > _MAX_PORT:
        return False
    return literal is None or _is_ipv6(literal)


def _is_ipv6(literal: bytes) -> bool:
    try:
        IPv6Address(literal.decode("ascii"))
    except AddressValueError:
        return False
    return True


def host_name(value: bytes) -> bytes:
    """The host of a valid Host value: lower-case, without port; IPv6 keeps its brackets.

    ``example.com.`` is the fully qualified spelling of ``example.com`` and gives the latter, so
    that it can't be used to walk around a route for that host.
    """
    colon = value.find(b":")
    if colon >= 0:
        value = value[: value.find(b"]") + 1] if value[0] == _BRACKET else value[:colon]
    if value.endswith(b"."):
        value = value[:-1]
    return value.lower()
