"""A TCP connection being made, and nothing else.

Twisted's connectors make an object for the connection's whole life, with factories, a name to
resolve and a start to wait for. A gateway makes a connection for every WebSocket, so here is what
the kernel wants for one address: a socket that is told to connect, and is writable when it has.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EINPROGRESS
from typing import Any

from twisted.internet import error, interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.net.transport import Client

__all__ = ["Dial"]


@implementer(interfaces.IReadWriteDescriptor)
class Dial:
    """See the module. Exactly one of ``made`` and ``failed`` is called, unless it is cancelled.

    :param address: an IP address; of IPv6 it may have a scope.
    :param timeout: seconds.
    :param made: gets the connection, which does not read yet; ``failed``: a `ConnectError`.
    """

    __slots__ = ("_address", "_failed", "_made", "_port", "_reactor", "_socket", "_timer")

    def __init__(
        self,
        address: str,
        port: int,
        timeout: float,
        reactor: Any,
        made: Callable[[Client], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._address = address
        self._port = port
        self._reactor = reactor
        self._made: Callable[[Client], None] | None = made
        self._failed: Callable[[Failure], None] | None = failed
        self._socket: socket.socket | None = None
        self._timer = reactor.callLater(timeout, self._too_late)

    def start(self) -> None:
        """Begin; it may be over when this returns."""
        try:
            self._connect()
        except OSError as trouble:
            self._fail(error.getConnectError((trouble.errno or 0, str(trouble.strerror))))

    def _connect(self) -> None:
        family, where = socket.AF_INET, (self._address, self._port)
        if ":" in self._address:
            family = socket.AF_INET6
            (found, *_) = socket.getaddrinfo(
                *where, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST
            )
            where = found[4]  # type: ignore[assignment]
        skt = self._socket = socket.socket(family, socket.SOCK_STREAM)
        skt.setblocking(False)
        code = skt.connect_ex(where)
        if code == EINPROGRESS:
            self._reactor.addWriter(self)
        elif code:
            raise OSError(code, os.strerror(code))
        else:
            self._done()

    def _done(self) -> None:
        made, skt = self._made, self._socket
        self._timer.cancel()
        self._made = self._failed = self._socket = None
        if made is not None and skt is not None:
            made(Client(skt, self._reactor))

    def _fail(self, reason: Exception) -> None:
        failed = self._failed
        self.cancel()
        if failed is not None:
            failed(Failure(reason))

    def _too_late(self) -> None:
        self._fail(error.TimeoutError())

    def cancel(self) -> None:
        """Give it up."""
        self._made = self._failed = None
        if self._timer.active():
            self._timer.cancel()
        skt = self._socket
        if skt is not None:
            self._reactor.removeWriter(self)
            self._socket = None
            skt.close()

    # -- for the reactor ----------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def doWrite(self) -> None:
        """The kernel is done with it."""
        if self._socket is None:
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(error.getConnectError((code, os.strerror(code))))
        else:
            self._reactor.removeWriter(self)
            self._done()

    def doRead(self) -> None:
        """Nothing is read here."""

    def connectionLost(self, reason: Failure) -> None:
        """The kernel is done with it, and it is not good; or the reactor stops."""
        code = 0
        if self._socket is not None:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(error.getConnectError((code, os.strerror(code))))
        else:
            self._fail(error.ConnectError())

    def logPrefix(self) -> str:
        return "Dial"

    def __repr__(self) -> str:
        return f"<Dial {self._address}:{self._port}>"
