"""The PROXY protocol, versions 1 and 2: who a proxy says its client is, before the first byte.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt ("the specification" below). The
channel of a listener with ``proxy_protocol`` feeds a `ProxyHeader` until it answers, and only for
peers that are trusted proxies: a header is a claim. Nothing but a complete, valid header is
accepted; nothing but the header is consumed.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from rtgateway.errors import BadRequest

__all__ = ["Proxied", "ProxyHeader"]

_V1 = b"PROXY "
_V1_LONGEST = 107
"""Bytes of the longest line with its CRLF (the specification, 2.1)."""
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_V2_LONGEST = 536
"""Bytes after the fixed part: room for addresses and for the extensions (TLVs) in use."""
_LOCAL, _PROXY = 0x20, 0x21
_STREAMS = {0x11: 4, 0x21: 16}
"""Transport protocol byte to bytes of each address: TCP over IPv4, TCP over IPv6."""
_NO_ADDRESS = frozenset((0x00, 0x31))
"""Unspecified; a Unix stream socket, which has no IP address."""


class Proxied(NamedTuple):
    """What a header said.

    :ivar ip: the client's address; empty when the proxy speaks for itself (a health check) or
        does not know, so that the peer's own address holds.
    :ivar port: the client's port; 0 with an empty ``ip``.
    :ivar rest: bytes that came after the header.
    """

    ip: str
    port: int
    rest: bytes


class ProxyHeader:
    """Takes bytes until the header is complete. Holds at most the longest header."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Proxied | None:
        """Take ``data``; None when more is needed.

        :raises BadRequest: as soon as this can't become a valid header.
        """
        data = self._buffer + data if self._buffer else data
        if data.startswith(_V2):
            found = _version_2(data)
        elif data.startswith(_V1):
            found = _version_1(data)
        elif _V2.startswith(data) or _V1.startswith(data):
            found = None
        else:
            raise BadRequest("The connection must begin with a PROXY protocol header")
        self._buffer = data if found is None else b""
        return found

    def __repr__(self) -> str:
        return f"<ProxyHeader {len(self._buffer)} bytes held>"


def _version_1(data: bytes) -> Proxied | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise _invalid()
        return None
    rest = data[end + 2 :]
    words = data[:end].split(b" ")
    # The specification, 2.1: what follows UNKNOWN is to be ignored.
    if words[1] == b"UNKNOWN":
        return Proxied("", 0, rest)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise _invalid()
    family = IPv4Address if words[1] == b"TCP4" else IPv6Address
    try:
        source, _ = (_address(family, word) for word in words[2:4])
        port, _ = (_port(word) for word in words[4:])
    except ValueError:
        raise _invalid() from None
    return Proxied(source, port, rest)


def _address(family: type[IPv4Address] | type[IPv6Address], word: bytes) -> str:
    text = word.decode("ascii")
    if "%" in text:
        raise ValueError("an address with a scope")
    return str(family(text))


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[0] == 0x30 and word != b"0"):
        raise ValueError("not a port")
    port = int(word)
    if port > 65535:
        raise ValueError("not a port")
    return port


def _version_2(data: bytes) -> Proxied | None:
    if len(data) < _V2_FIXED:
        return None
    command, transport = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or length > _V2_LONGEST:
        raise _invalid()
    end = _V2_FIXED + length
    if len(data) < end:
        return None
    rest = data[end:]
    # The specification, 2.2: with LOCAL the rest of the header is to be skipped whatever it is.
    if command == _LOCAL or transport in _NO_ADDRESS:
        return Proxied("", 0, rest)
    size = _STREAMS.get(transport)
    if size is None or length < 2 * size + 4:
        raise _invalid()
    packed = data[_V2_FIXED : _V2_FIXED + size]
    source = IPv4Address(packed) if size == 4 else IPv6Address(packed)
    ports = _V2_FIXED + 2 * size
    return Proxied(str(source), int.from_bytes(data[ports : ports + 2], "big"), rest)


def _invalid() -> BadRequest:
    return BadRequest("The PROXY protocol header is not valid")
