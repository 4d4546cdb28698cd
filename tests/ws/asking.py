"""Requests for WebSockets, and what becomes of them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import Any, cast

from rtgateway.errors import GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.wire.http1 import HeadLimits, RequestParser, ResponseHead, ResponseParser
from rtgateway.ws.upgrade import Terms, Upgrade, read_upgrade

__all__ = [
    "KEY",
    "accept_of",
    "answer",
    "ask",
    "exchange_of",
    "refusal",
    "sent_key",
    "upgrade_of",
    "without",
]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_FIELDS = (
    b"Host: a.example",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)


def ask(
    *more: bytes,
    target: bytes = b"/chat",
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request for a WebSocket; a field in ``more`` stands in place of the one of its name."""
    names = {line.partition(b":")[0].lower() for line in more}
    lines = [line for line in _FIELDS if line.partition(b":")[0].lower() not in names]
    return b"\r\n".join((b"%b %b %b" % (method, target, version), *lines, *more, b"", b""))


def without(name: bytes, request: bytes = b"") -> bytes:
    """``request`` without a field."""
    lines = (request or ask()).split(b"\r\n")
    return b"\r\n".join(
        line for line in lines if line.partition(b":")[0].lower() != name.lower() or not line
    )


class _Client:
    """The connection a request came on."""


def exchange_of(request: bytes) -> Exchange:
    """A request as far as the site brings it: parsed, with its address taken apart."""
    head = RequestParser(HeadLimits()).feed(request)
    assert head is not None
    exchange = Exchange(cast("Any", _Client()), head, 0.0)
    exchange.path = head.target.partition(b"?")[0]
    exchange.rest = head.target
    if head.target.startswith(b"/ws/users"):
        # As the built-in route leaves it: what follows the name of the service.
        exchange.rest = b"/" + head.target.removeprefix(b"/ws/users").removeprefix(b"/")
    exchange.host = b"a.example"
    exchange.request_id = b"r-1"
    return exchange


def upgrade_of(request: bytes, terms: Terms | None = None) -> tuple[Exchange, Upgrade]:
    """A request that is taken."""
    exchange = exchange_of(request)
    upgrade = read_upgrade(exchange, terms or Terms())
    assert upgrade is not None
    return exchange, upgrade


def refusal(request: bytes, terms: Terms | None = None) -> GatewayError | None:
    """What a request is refused with; None if it is not."""
    try:
        read_upgrade(exchange_of(request), terms or Terms())
    except GatewayError as error:
        return error
    return None


def sent_key(upgrade: Upgrade) -> bytes:
    """The key that the instance is sent."""
    _, _, behind = upgrade.lines.partition(b"Sec-WebSocket-Key: ")
    return behind.partition(b"\r\n")[0]


def accept_of(key: bytes) -> bytes:
    """RFC 6455, 4.2.2, 5.4: what proves that the key was read."""
    return b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def answer(
    upgrade: Upgrade | None,
    *more: bytes,
    drop: bytes = b"-",
    first: bytes = b"HTTP/1.1 101 Switching Protocols",
) -> ResponseHead:
    """What an instance says to ``upgrade``, with ``more`` fields and without ``drop``."""
    lines = [b"Upgrade: websocket", b"Connection: Upgrade"]
    if upgrade is not None:
        lines.append(b"Sec-WebSocket-Accept: " + accept_of(sent_key(upgrade)))
    lines = [line for line in lines if not line.startswith(drop)]
    head = ResponseParser(HeadLimits()).feed(b"\r\n".join((first, *lines, *more, b"", b"")))
    assert head is not None
    return head
