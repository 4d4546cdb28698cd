"""What the pipeline knows of WebSockets; the row ``ws`` has what these protocols stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rtgateway.upstream.answer import Answer

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["Bridge", "Upgrade"]


class Upgrade(Protocol):
    """A request's wish to speak WebSocket (RFC 6455, 4.1), found to be well-formed.

    ``lines``: header lines for the instance, in place of those that the client sent; ``token``:
    one that came where no header field could be set; ``per_instance``: see `upstream.call.Upgrade`.
    """

    @property
    def lines(self) -> bytes: ...
    @property
    def token(self) -> bytes | None: ...
    @property
    def per_instance(self) -> int: ...


class Bridge(Protocol):
    """The WebSocket side of a route.

    ``only``: the route serves nothing else.
    """

    @property
    def only(self) -> bool: ...

    def admit(self, exchange: Exchange) -> None:
        """Set ``exchange.upgrade`` if it is one.

        :raises GatewayError: it is not well-formed, or not allowed, or not now.
        """
        ...

    def enter(self, exchange: Exchange) -> None:
        """Take a place for it, now that it is known whose it is.

        :raises GatewayError: there is none.
        """
        ...

    def open(self, exchange: Exchange, answer: Answer) -> None:
        """The instance has agreed (101): tell the client, and bridge the two from here on.

        :raises UpstreamFailed: what the instance says does not make sense.
        """
        ...

    def left(self, exchange: Exchange) -> None:
        """The exchange of ``exchange.upgrade`` is over, whether a WebSocket came of it or not."""
        ...
