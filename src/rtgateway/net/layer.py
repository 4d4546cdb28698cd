"""What a transport that lies on another one passes through, and how it waits for a peer.

`net.secure` is built on both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import interfaces

__all__ = ["Layer", "StallTimer"]


class Layer:
    """A transport on top of ``transport``, whose addresses, options and counts are its own."""

    __slots__ = ("__weakref__", "transport")

    transport: Any  # several interfaces at once: TCP transport, consumer, producer

    @property
    def unsent(self) -> int:
        """Bytes below that the kernel has not taken yet."""
        return int(getattr(self.transport, "unsent", 0))

    @property
    def undelivered(self) -> int:
        """Bytes below that the peer has not acknowledged yet, as far as the system tells."""
        return int(getattr(self.transport, "undelivered", 0))

    def getHandle(self) -> Any:
        """The socket."""
        return self.transport.getHandle()

    def getPeer(self) -> Any:
        return self.transport.getPeer()

    def getHost(self) -> Any:
        return self.transport.getHost()

    def getTcpNoDelay(self) -> bool:
        return bool(self.transport.getTcpNoDelay())

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.transport.setTcpNoDelay(enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self.transport.getTcpKeepAlive())

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.transport.setTcpKeepAlive(enabled)


class StallTimer:
    """Calls ``stalled`` once the peer has taken nothing of what it gets for ``seconds``."""

    __slots__ = ("_call", "_clock", "_layer", "_left", "_seconds", "_stalled")

    def __init__(
        self,
        clock: interfaces.IReactorTime,
        layer: Layer,
        seconds: float,
        stalled: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._layer = layer
        self._seconds = seconds
        self._stalled = stalled
        self._start()

    def _start(self) -> None:
        self._left = self._layer.undelivered
        self._call: interfaces.IDelayedCall | None = self._clock.callLater(self._seconds, self._due)

    def _due(self) -> None:
        self._call = None
        if self._layer.undelivered < self._left:
            self._start()
        else:
            self._stalled()

    def stop(self) -> None:
        """Call nothing any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
