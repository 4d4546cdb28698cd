"""WebSockets that are opened only to be told why there is none: a Close code is all browsers show.

Clients of the Real-Time API Gateway expect 1008 ``unknown_service`` at ``/ws/<service>`` for a
service that does not exist, and no HTTP status would reach a page's script.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from twisted.python.failure import Failure

from rtgateway.errors import GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.wire.websocket import FrameError, FrameRules, FrameScanner, close_frame
from rtgateway.ws.sockets import Sockets
from rtgateway.ws.upgrade import Agreed, Terms, read_upgrade, switched

__all__ = ["UnknownService"]

_NEVER = float("inf")
_PATIENCE = 5.0
"""Seconds for a client to answer a Close."""
_TERMS = Terms()
"""Whatever path is asked for, there is nobody to ask."""


class UnknownService:
    """A page (`gateway.pipeline.Page`): closes a WebSocket, refuses everything else.

    :param refusal: of everything else.
    """

    def __init__(self, sockets: Sockets, refusal: GatewayError) -> None:
        self._sockets = sockets
        self._refusal = refusal

    async def answer(self, exchange: Exchange) -> None:
        """Accept, and close with 1008.

        :raises GatewayError: it is no proper upgrade.
        """
        upgrade = read_upgrade(exchange, _TERMS)
        if upgrade is None:
            raise self._refusal
        agreed = Agreed(upgrade.protocols[0] if upgrade.protocols else None)
        head = upgrade.accept(agreed, [(b"X-Request-Id", exchange.request_id)])
        farewell = _Farewell(self._sockets)
        self._sockets.refuse("/ws/:service", self._refusal.code)
        early = exchange.client.hand_over(farewell)
        switched(exchange, monotonic())
        exchange.error_code = self._refusal.code
        farewell.say(head + close_frame(1008, self._refusal.code, masked=False))
        if early:
            farewell.dataReceived(early)


_RULES = FrameRules(masked=True, compressed=False, max_frame=0, max_message=0)


class _Farewell:
    """The protocol of such a connection: waits for the client's Close, for a while."""

    __slots__ = ("_scanner", "_sockets", "deadline", "transport")

    transport: Any

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._scanner = FrameScanner(_RULES, lambda opcode, payload, frame: b"")
        self.deadline = 0.0

    def say(self, data: bytes) -> None:
        now = monotonic()
        self.deadline = now + _PATIENCE
        self._sockets.wheel.add(self, now)
        self._sockets.farewells.add(self)
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._scanner.feed(data)
        except FrameError:
            self.transport.abortConnection()
        else:
            if self._scanner.closed:
                self.transport.loseConnection()

    def expired(self, now: float) -> None:
        """It takes too long (called by the sweep)."""
        self.deadline = _NEVER
        self.abort()

    def abort(self) -> None:
        """Wait no longer."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self._sockets.wheel.discard(self)
        self._sockets.farewells.discard(self)
