"""Requests that want to become WebSockets (RFC 6455, 4.1 and 4.2.1).

`read_upgrade` decides whether one is well-formed and allowed, and takes everything out of it that
ends at the gateway: the handshake's own fields, which are made anew for the instance, and a token
that stands where browsers can put it. The `Upgrade` that it gives then goes with the exchange until
the instance has agreed and the client is told.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from os import urandom
from typing import TYPE_CHECKING

from rtgateway.core.headers import connection_options
from rtgateway.errors import BadRequest, GatewayError
from rtgateway.wire.http1 import RequestHead, ResponseHead
from rtgateway.wire.lines import Line
from rtgateway.ws.credentials import take_cookie, take_pair
from rtgateway.ws.handshake import Agreed, check_answer, write_answer
from rtgateway.ws.offers import deflate_offers, subprotocols
from rtgateway.ws.target import check_path, path_of_query, take_parameter, with_query

if TYPE_CHECKING:
    from rtgateway.core.origins import Origins
    from rtgateway.gateway.exchange import Exchange
    from rtgateway.ws.sockets import Place

__all__ = ["Agreed", "Terms", "Upgrade", "read_upgrade", "switched"]

_WEBSOCKET = b"websocket"
_VERSION = b"13"
_PREFIX = b"sec-websocket-"

# RFC 6455, 4.1: 16 bytes in base64. Bits of the last digit that say nothing may be anything.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


@dataclass(frozen=True, slots=True)
class Terms:
    """On which a route takes upgrades.

    :ivar origins: the pages that may open WebSockets here; None for any.
    :ivar takes_token: a token is asked for here; else what looks like one is the instance's.
    :ivar token_query: the query parameter that may hold a token, and ``token_cookie``: the cookie.
    :ivar only: nothing but WebSockets is served here.
    :ivar path_in_query: the path at the instance is in ``?path=``, not the request's own.
    """

    origins: Origins | None = None
    takes_token: bool = False
    token_query: bytes | None = None
    token_cookie: bytes | None = None
    only: bool = False
    path_in_query: bool = False


class Upgrade:
    """A request's wish to become a WebSocket, found to be well-formed and allowed.

    :ivar token: taken out of the subprotocols, the query or a cookie, in this order.
    :ivar protocols: subprotocols that are offered to the instance.
    :ivar lines: header lines for the instance, in place of those that the client sent.
    :ivar per_instance: see `upstream.call.Upgrade`; whoever knows the route sets it.
    :ivar place: what it counts against while it is opening.
    """

    __slots__ = (
        "_client_key",
        "_deflate",
        "_key",
        "_scheme",
        "lines",
        "per_instance",
        "place",
        "protocols",
        "token",
    )

    def __init__(
        self,
        client_key: bytes,
        protocols: Sequence[bytes],
        deflate: Sequence[bytes],
        token: bytes | None,
        scheme: bytes,
    ) -> None:
        self.token = token
        self.protocols = tuple(name.decode("ascii") for name in protocols)
        self.per_instance = 0
        self.place: Place | None = None
        self._client_key = client_key
        self._key = key = b64encode(urandom(16))
        self._deflate = bool(deflate)
        self._scheme = scheme.decode("ascii")
        lines = (
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n" % key
        )
        if protocols:
            lines += b"Sec-WebSocket-Protocol: %b\r\n" % b", ".join(protocols)
        if deflate:
            lines += b"Sec-WebSocket-Extensions: %b\r\n" % b", ".join(deflate)
        self.lines = lines

    @property
    def bearer(self) -> bool:
        """The client offered the pair ``bearer, <token>``, which was taken out."""
        return bool(self._scheme)

    def verify(self, head: ResponseHead) -> Agreed:
        """What the instance has agreed to by its 101.

        :raises UpstreamFailed: it is no valid answer to what it was sent.
        """
        return check_answer(head, self._key, self.protocols, deflate=self._deflate)

    def accept(self, agreed: Agreed, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The 101 for the client.

        :param headers: names and values of fields to add, in their order.
        """
        offered, protocol = self.protocols, agreed.protocol
        if self._scheme:
            # Browsers fail a connection for which they offered subprotocols and none was selected.
            offered = (*offered, self._scheme)
            protocol = protocol or self._scheme
        return write_answer(self._client_key, offered, agreed, protocol, headers)

    def __repr__(self) -> str:
        token = "token" if self.token is not None else "no token"
        return f"<Upgrade {len(self.protocols)} subprotocols deflate={self._deflate} {token}>"


def read_upgrade(exchange: Exchange, settings: Terms) -> Upgrade | None:
    """The upgrade that ``exchange`` asks for; None if it does not, and need not.

    The exchange is changed: the handshake's fields and tokens are gone from its head and target,
    even where the upgrade is refused, and ``rest`` is what the instance is asked for.

    :raises GatewayError: 400, 403, 405 or 426: it is malformed, or not allowed here.
    """
    wanted = _WEBSOCKET in connection_options([exchange.named.get(b"upgrade", b"")])
    if settings.only and not (wanted and exchange.version == 11):
        raise _required("Only WebSockets are served here")
    if not wanted:
        return None
    fields, token = _take(exchange, settings)
    _check_request(exchange)
    key = _check_fields(fields)
    if settings.origins is not None:
        _check_origin(exchange.values(b"origin"), settings.origins)
    protocols = subprotocols(fields.get(b"sec-websocket-protocol", []))
    deflate = deflate_offers(fields.get(b"sec-websocket-extensions", []))
    scheme = b""
    if settings.takes_token:
        protocols, paired, scheme = take_pair(protocols)
        token = paired or token
    check_path(exchange.path)
    if settings.path_in_query:
        path, _, query = exchange.rest.partition(b"?")
        exchange.rest = path_of_query(path, query)
    else:
        check_path(exchange.rest.partition(b"?")[0])
    return Upgrade(key, protocols, deflate, token, scheme)


def switched(exchange: Exchange, now: float) -> None:
    """The client has been told 101: that is all there is to tell of ``exchange`` as a request."""
    exchange.status = 101
    exchange.kind = "websocket"
    exchange.started_answering = True
    exchange.first_byte = now
    exchange.keep_alive = False


def _take(exchange: Exchange, settings: Terms) -> tuple[dict[bytes, list[bytes]], bytes | None]:
    """Take out what ends here: the handshake's fields, and a token in the query or a cookie."""
    fields: dict[bytes, list[bytes]] = {}
    lines: list[Line] = []
    for line in exchange.head.lines:
        key, _, value = line[0]
        if key.startswith(_PREFIX):
            fields.setdefault(key, []).append(value)
        else:
            lines.append(line)
    token = None
    in_query: list[bytes] = []
    if settings.takes_token:
        if settings.token_cookie is not None:
            lines, token = take_cookie(lines, settings.token_cookie)
        if settings.token_query is not None:
            query = exchange.target.partition(b"?")[2]
            left, in_query = take_parameter(query, settings.token_query)
            if in_query:
                exchange.target = with_query(exchange.target, left)
                exchange.rest = with_query(exchange.rest, left)
                token = in_query[0] or token
    head = exchange.head
    exchange.head = RequestHead(head.method, exchange.target, head.version, lines)
    # What repeated requests share would bring all of it back.
    exchange.repeats = None
    if len(in_query) > 1:
        raise BadRequest("The query has more than one token")
    return fields, token


def _check_request(exchange: Exchange) -> None:
    """RFC 6455, 4.2.1: what must hold of the request besides the handshake's own fields."""
    if exchange.version != 11:
        # RFC 9110, 7.8: no HTTP/1.0 message can ask for an upgrade.
        raise BadRequest("A WebSocket can only be asked for with HTTP/1.1")
    if exchange.method != b"GET":
        raise GatewayError(
            405,
            "method_not_allowed",
            "A WebSocket is asked for with GET",
            fault="client",
            headers=((b"Allow", b"GET"),),
        )
    if b"upgrade" not in connection_options([exchange.named.get(b"connection", b"")]):
        raise BadRequest("The Connection field does not list upgrade")
    if exchange.head.length:
        raise BadRequest("A request for a WebSocket can't have a body")


def _check_fields(fields: dict[bytes, list[bytes]]) -> bytes:
    """The client's key; its version must be ours."""
    versions = fields.get(b"sec-websocket-version", [])
    if len(versions) > 1:
        raise BadRequest("There must be one Sec-WebSocket-Version field")
    if versions != [_VERSION]:
        raise _required("Only version 13 of the WebSocket protocol is spoken here")
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1:
        raise BadRequest("There must be one Sec-WebSocket-Key field")
    if _KEY.fullmatch(keys[0]) is None:
        raise BadRequest("The Sec-WebSocket-Key is not 16 bytes in base64")
    return keys[0]


def _check_origin(values: list[bytes], origins: Origins) -> None:
    """Browsers say which page asks (RFC 6455, 10.2); whoever says nothing is none."""
    if values and not (len(values) == 1 and origins.allows(values[0])):
        raise GatewayError(
            403,
            "origin_not_allowed",
            "This origin may not open WebSockets here",
            fault="client",
        )


def _required(message: str) -> GatewayError:
    """RFC 9110, 15.5.22 and 7.8; RFC 6455, 4.4."""
    return GatewayError(
        426,
        "upgrade_required",
        message,
        fault="client",
        headers=(
            (b"Upgrade", _WEBSOCKET),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Version", _VERSION),
        ),
    )
