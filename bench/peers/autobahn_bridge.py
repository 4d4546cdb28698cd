"""A WebSocket bridge as it is usually written with Autobahn: autobahn_bridge.py PORT UPSTREAM.

A WebSocketServerProtocol and a WebSocketClientProtocol for each pair; every message is received
whole, unmasked, and sent again by the other one. Pings every 30 s, as the gateway sends them.
"""

import sys
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.defer import Deferred

PING_SECONDS, PONG_SECONDS = 30, 10
NORMAL, PRIVATE = 1000, range(3000, 5000)


class Inner(WebSocketClientProtocol):
    """Our connection to the upstream."""

    factory: "InnerFactory"

    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.outer.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.factory.opened.called:
            self.factory.outer.sendClose(sendable(code))
        else:
            self.factory.opened.errback(ConnectionError(reason))


class InnerFactory(WebSocketClientFactory):
    protocol = Inner  # type: ignore[assignment]  # Twisted types it as a function
    noisy = False

    def __init__(self, url: str, outer: "Outer", protocols: list[str]) -> None:
        super().__init__(url, protocols=protocols)
        self.outer = outer
        self.opened: Deferred[Inner] = Deferred()


class Outer(WebSocketServerProtocol):
    """The client's connection to us. It gets its 101 when the upstream has agreed."""

    factory: "OuterFactory"
    inner: Inner | None = None

    def onConnect(self, request: Any) -> Any:
        inner = InnerFactory(self.factory.upstream, self, request.protocols)
        self.factory.reactor.connectTCP(inner.host, inner.port, inner)
        return inner.opened.addCallback(self.joined)

    def joined(self, inner: Inner) -> None:
        self.inner = inner

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.inner is not None:
            self.inner.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.inner is not None:
            self.inner.sendClose(sendable(code))


class OuterFactory(WebSocketServerFactory):
    protocol = Outer  # type: ignore[assignment]

    def __init__(self, url: str, upstream: str) -> None:
        super().__init__(url)
        self.upstream = upstream
        self.setProtocolOptions(autoPingInterval=PING_SECONDS, autoPingTimeout=PONG_SECONDS)


def sendable(code: int | None) -> int:
    return code if code is not None and (code == NORMAL or code in PRIVATE) else NORMAL


def main() -> None:
    port, upstream = sys.argv[1:3]
    # Installs the default reactor, so it waits until the program runs.
    from twisted.internet import reactor

    factory = OuterFactory(f"ws://127.0.0.1:{port}", f"ws://{upstream}/echo")
    reactor.listenTCP(int(port), factory, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
