"""The ClientHello, a TLS client's first message, read before there is a TLS connection.

`net.secure` chooses the certificate by it, and refuses who speaks other protocols only: the
standard library's TLS refuses nobody for that, and reports a server name that is not ASCII as an
error of the program. What is no ClientHello is left to OpenSSL to refuse.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ClientHello", "read_hello"]

_LONGEST = 16 * 1024
"""Bytes. Browsers send 2 KiB, most of it a post-quantum key."""
_MOST_RECORDS = 8
"""A message may be spread over records; byte by byte it would cost more than it is worth."""
_HANDSHAKE, _CLIENT_HELLO = b"\x16", b"\x01"
_SERVER_NAME, _ALPN = 0, 16
_VERSION_AND_RANDOM = 34


class ClientHello(NamedTuple):
    """What a client asks for."""

    server_name: str = ""
    """In lower case; empty when it names none (RFC 6066, 3)."""
    protocols: tuple[bytes, ...] = ()
    """What it offers to speak (ALPN, RFC 7301); empty when it does not say."""


def read_hello(flight: bytes) -> ClientHello | None:
    """Read the ClientHello in all that a client has sent so far.

    :return: None as long as it is not complete; an empty one if it is none that can be read.
    """
    try:
        message = _message(flight)
        return None if message is None else _read(message)
    except ValueError:
        return ClientHello()


def _message(flight: bytes) -> bytes | None:
    """The body of the first handshake message, put together from its records (RFC 8446, 5.1)."""
    message = b""
    at = 0
    for _ in range(_MOST_RECORDS):
        if flight[at : at + 1] not in (_HANDSHAKE, b""):
            raise ValueError("not a handshake")
        fragment, at = _vector(flight, at + 3, 2, partial=True)
        message += fragment
        if message[:1] not in (_CLIENT_HELLO, b""):
            raise ValueError("not a ClientHello")
        whole = 4 + int.from_bytes(message[1:4], "big")
        if len(message) >= max(whole, 4):
            return message[4:whole]
        if at >= len(flight):
            if whole > _LONGEST:
                raise ValueError("too long")
            return None
    raise ValueError("too many records")


def _read(body: bytes) -> ClientHello:
    """RFC 8446, 4.1.2."""
    at = _VERSION_AND_RANDOM
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        _, at = _vector(body, at, width)
    extensions, _ = _vector(body, at, 2)
    name = ""
    protocols: tuple[bytes, ...] = ()
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        content, at = _vector(extensions, at + 2, 2)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            protocols = _protocols(content)
    return ClientHello(name, protocols)


def _server_name(content: bytes) -> str:
    names, _ = _vector(content, 0, 2)
    # A type, of which there is one (host_name, 0), then the name.
    name, _ = _vector(names, 1, 2)
    return name.decode("ascii", "replace").lower()


def _protocols(content: bytes) -> tuple[bytes, ...]:
    names, _ = _vector(content, 0, 2)
    found = []
    at = 0
    while at < len(names):
        name, at = _vector(names, at, 1)
        found.append(name)
    return tuple(found)


def _vector(data: bytes, at: int, width: int, *, partial: bool = False) -> tuple[bytes, int]:
    """(content, end) of a vector whose length stands before it in ``width`` bytes.

    :raises ValueError: when it ends after the data, unless it may be ``partial``.
    """
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if end > len(data) and not partial:
        raise ValueError("cut off")
    return data[start:end], end
