"""Both opening handshakes (RFC 6455, 4), as Autobahn decides them.

The gateway is the client of the instance and the server of the client. Autobahn's two protocols
judge what the instance answers and write what the client is told; who spoke first, what was offered
and what was checked before is in `rtgateway.ws.upgrade`.

An Autobahn protocol is made for a connection: it takes a copy of 30 options, futures, timers,
statistics and a logger, and keeps them. Here one lives for the length of a call and has no
connection. It gets what the two methods that decide (``processHandshake`` of the client's,
``succeedHandshake`` of the server's) read, and nothing else. That is not a documented use, so this
is the only module that knows of it, and its tests hold it against whole Autobahn connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import txaio
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.protocol import (
    WebSocketClientProtocol,
    WebSocketProtocol,
    WebSocketServerProtocol,
)

from rtgateway.core.headers import HOP_BY_HOP, connection_options
from rtgateway.errors import UpstreamFailed
from rtgateway.wire.http1 import ResponseHead

__all__ = ["DEFLATE", "Agreed", "check_answer", "passed_down", "write_answer"]

txaio.use_twisted()

DEFLATE = "permessage-deflate"
"""The one extension that is negotiated (RFC 7692): of others, nobody here knows what they do to
frames."""

_MAX_DETAIL = 200
"""Characters of Autobahn's words that are kept; it quotes the answer."""

_VISIBLE = re.compile(rb"[\t\x20-\x7e]*")
_DECIDING = frozenset([b"upgrade", b"connection"])
_PREFIX = b"sec-websocket-"
_VERSIONS = {11: b"HTTP/1.1", 10: b"HTTP/1.0"}


@dataclass(frozen=True, slots=True)
class Agreed:
    """What an instance has agreed to; without arguments, nothing beyond plain WebSockets.

    :ivar protocol: the subprotocol it has selected.
    :ivar extensions: the value of its Sec-WebSocket-Extensions field, empty if there is none.
    :ivar compressed: permessage-deflate is on (RFC 7692).
    """

    protocol: str | None = None
    extensions: bytes = b""
    compressed: bool = False


# -- what both of them read of a connection ---------------------------------------------------


class _Silence:
    """Takes Autobahn's log lines, which tell of every handshake."""

    def _nothing(self, *_: object, **__: object) -> None: ...

    trace = debug = info = warn = error = failure = _nothing


class _Unheard:
    """In place of the Deferred that fires when the handshake is done."""

    def callback(self, result: object) -> None: ...


class _Calculator:
    """What a protocol has besides the handshake: nothing.

    :ivar failed: why there is no handshake, in Autobahn's words.
    """

    log = _Silence()
    is_open = _Unheard()
    data = b""
    state = WebSocketProtocol.STATE_CONNECTING
    trackedTimings: Any = None
    openHandshakeTimeoutCall = None
    autoPingInterval = 0
    _perMessageCompress: Any = None
    failed = ""

    def failHandshake(self, reason: str, code: int = 0, responseHeaders: object = None) -> None:
        self.failed = reason

    def _onConnect(self, response: object) -> None: ...
    def _onOpen(self) -> None: ...


# -- the instance's answer --------------------------------------------------------------------


class _ClientFactory:
    """What a client reads of its factory: the subprotocols that it has offered."""

    __slots__ = ("protocols",)

    isServer = False

    def __init__(self, protocols: Sequence[str]) -> None:
        self.protocols = protocols


class _Client(_Calculator, WebSocketClientProtocol):
    """Judges one answer."""

    version = WebSocketProtocol.DEFAULT_SPEC_VERSION

    def __init__(self, answer: bytes, key: bytes, protocols: Sequence[str], deflate: bool) -> None:
        self.data = answer
        self.websocket_key = key
        self.factory = _ClientFactory(protocols)
        self._offered = deflate

    def perMessageCompressionAccept(
        self, response: object
    ) -> PerMessageDeflateResponseAccept | None:
        """Take permessage-deflate if it was offered; Autobahn knows other compressions, too."""
        if self._offered and isinstance(response, PerMessageDeflateResponse):
            return PerMessageDeflateResponseAccept(response)
        return None

    def _parseExtensionsHeader(self, header: str, removeQuotes: bool = True) -> Any:
        extensions = super()._parseExtensionsHeader(header, removeQuotes)
        for _, parameters in extensions:
            for name in _WINDOWS & parameters.keys():
                # RFC 7692, 7.1.2 allows windows of 8 bits. Autobahn can't inflate these, and is
                # not asked to: client and instance have to know what they offer and take.
                if parameters[name] == ["8"]:
                    parameters[name] = ["9"]
        return extensions


_WINDOWS = frozenset(["server_max_window_bits", "client_max_window_bits"])


def check_answer(
    head: ResponseHead, key: bytes, protocols: Sequence[str], *, deflate: bool
) -> Agreed:
    """What an instance has agreed to by ``head``.

    :param key: the Sec-WebSocket-Key that it was sent; ``protocols``: the subprotocols.
    :param deflate: permessage-deflate was offered to it.
    :raises UpstreamFailed: it is no valid answer to that (RFC 6455, 4.1).
    """
    # Autobahn gets the fields that decide. Others may hold what it stumbles over: bytes that are
    # no UTF-8, or 0x85, which ends a line to it.
    lines = [b"%b %d" % (_VERSIONS[head.version], head.status)]
    extensions = b""
    for name, _, value in head.fields:
        if name in _DECIDING or name.startswith(_PREFIX):
            if _VISIBLE.fullmatch(value) is None:
                raise _refused(f"its {name.decode('ascii')} field is not ASCII")
            lines.append(b"%b: %b" % (name, value))
            if name == b"sec-websocket-extensions":
                extensions = value
    client = _Client(b"\r\n".join(lines) + b"\r\n\r\n", key, protocols, deflate)
    client.processHandshake()
    if client.failed or client.state != WebSocketProtocol.STATE_OPEN:
        raise _refused(client.failed)
    if client._perMessageCompress is None:
        return Agreed(client.websocket_protocol_in_use)
    return Agreed(client.websocket_protocol_in_use, extensions, compressed=True)


def _refused(reason: str) -> UpstreamFailed:
    detail = f"its WebSocket handshake is not valid: {reason[:_MAX_DETAIL]}"
    return UpstreamFailed(detail, kind="invalid", code="upstream_invalid")


def passed_down(head: ResponseHead) -> list[tuple[bytes, bytes]]:
    """The fields of an answer to a handshake that are for the client, in the order received.

    Not those of the handshake itself, nor those of this hop (RFC 9110, 7.6.1).
    """
    listed = connection_options([head.named.get(b"connection", b"")]) | _OF_THIS_HOP
    return [
        (name, value)
        for key, name, value in head.fields
        if key not in listed and not key.startswith(_PREFIX)
    ]


_OF_THIS_HOP = HOP_BY_HOP | {b"content-length", b"x-request-id"}


# -- the answer to the client -----------------------------------------------------------------


class _ServerFactory:
    """What a server reads of its factory."""

    isServer = True
    server = ""  # the instance says who it is, or does not
    headers: Mapping[str, str] = MappingProxyType({})


class _Accept(PerMessageDeflateOfferAccept):
    """Answers an offer as the instance did, to the letter."""

    def __init__(self, extensions: bytes) -> None:
        super().__init__(PerMessageDeflateOffer())
        self._verbatim = extensions.decode("ascii")

    def get_extension_string(self) -> str:
        return self._verbatim


class _Server(_Calculator, WebSocketServerProtocol):
    """Writes one answer."""

    factory = _ServerFactory()
    written = b""

    def __init__(self, key: bytes, offered: Sequence[str], extensions: bytes) -> None:
        self._wskey = key.decode("ascii")
        self.websocket_protocols = list(offered)
        # The offer itself was the instance's to judge.
        self.websocket_extensions = [(DEFLATE, {})] if extensions else []
        self._extensions = extensions

    def perMessageCompressionAccept(self, offers: object) -> PerMessageDeflateOfferAccept:
        return _Accept(self._extensions)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self.written += data


def write_answer(
    key: bytes,
    offered: Sequence[str],
    agreed: Agreed,
    protocol: str | None,
    headers: Iterable[tuple[bytes, bytes]],
) -> bytes:
    """The 101 for a client (RFC 6455, 4.2.2).

    :param key: the client's Sec-WebSocket-Key; ``offered``: all subprotocols that it has named.
    :param protocol: the one of these to answer with.
    :param headers: names and values of more fields, in their order. Not Autobahn's to write: it
        would make UTF-8 of their values, and bring fields of one name together.
    """
    server = _Server(key, offered, agreed.extensions)
    server.succeedHandshake(protocol)
    if server.failed or server.state != WebSocketProtocol.STATE_OPEN:
        raise RuntimeError(f"Autobahn would not answer: {server.failed}")
    more = b"".join([b"%b: %b\r\n" % field for field in headers])
    return server.written[:-2] + more + b"\r\n"
