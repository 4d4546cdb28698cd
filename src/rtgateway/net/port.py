"""Listening ports whose connections write at once, and which a `Gate` governs.

A port takes over a socket that listens already (`net.listen` makes or inherits it). It accepts
while the gate has places; when the process runs out of file descriptors it rests for a second
instead of spinning or dropping clients.
"""

from __future__ import annotations

# Twisted's ports are not annotated throughout.
# mypy: allow-untyped-calls
import errno
import os
import socket
from typing import Any, cast

from twisted.internet import interfaces, tcp
from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.net.gate import Gate
from rtgateway.net.log import Logger
from rtgateway.net.transport import Server, UnixServer

__all__ = ["Port", "UnixPort"]

_ACCEPTS = 64
"""Connections accepted before others get their turn."""
_REST = 1.0
"""Seconds without accepting after the system had no room for another connection."""
# accept(2): these belong to the connection that was about to be accepted, not to the socket.
_PASSING = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    )
)

log = Logger()


@implementer(interfaces.IListeningPort)
class Port(tcp.Port):
    """A TCP port; see the module."""

    transport: type[Any] = Server

    def __init__(
        self,
        listening: socket.socket,
        factory: interfaces.IProtocolFactory,
        reactor: ReactorBase,
        gate: Gate,
    ) -> None:
        super().__init__(0, factory, reactor=reactor)
        self.socket = listening
        self.gate = gate
        self.addressFamily = listening.family
        if listening.family == socket.AF_INET6:
            self._addressType = IPv6Address
        self._resting: interfaces.IDelayedCall | None = None

    def startListening(self) -> None:
        """Begin to accept."""
        self.factory.doStart()  # type: ignore[union-attr]
        self._realPortNumber = self.socket.getsockname()[1]
        # Accepted sockets inherit it: no setsockopt for each connection.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin()

    def _begin(self) -> None:
        # A socket that others hold too (systemd, workers) must stay open for them.
        self._shouldShutdown = False
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected = True
        self.gate.add(self)
        self.resumeProducing()

    def doRead(self) -> None:
        """Accept who waits, if there is room."""
        for _ in range(_ACCEPTS):
            if self.gate.full or self.disconnecting:
                return
            try:
                accepted, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._rest(error)
                return
            self._welcome(accepted, peer)

    def _welcome(self, accepted: socket.socket, peer: Any) -> None:
        place = self.gate.admit(self._client_ip(peer))
        if place is None:
            accepted.close()
            return
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(peer))  # type: ignore[union-attr]
            if protocol is None:
                raise ConnectionRefusedError("the factory wants no more connections")
            number = self.sessionno
            self.sessionno += 1
            transport = self.transport(accepted, protocol, peer, self, number, self.reactor)
        except Exception as error:
            if not isinstance(error, ConnectionRefusedError):
                log.failure("A connection could not be set up")
            accepted.close()
            self.gate.leave(place)
            return
        transport.leave = self.gate.leave
        transport.admitted_as = place
        try:
            protocol.makeConnection(transport)
        except Exception:
            log.failure("A connection could not be set up")
            transport.abortConnection()

    def _client_ip(self, peer: Any) -> str:
        return str(peer[0])

    def _rest(self, error: OSError) -> None:
        log.warn(
            "Cannot accept connections on {port} for {seconds} s: {reason}",
            port=self._realPortNumber,
            seconds=_REST,
            reason=error.strerror,
        )
        self.stopReading()
        clock = cast("interfaces.IReactorTime", self.reactor)
        self._resting = clock.callLater(_REST, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Accept again, unless there is a reason left not to."""
        if self._resting is None and not self.gate.full:
            super().resumeProducing()

    def loseConnection(self, connDone: Failure | None = None) -> Deferred[None] | None:
        """Stop accepting and close. Connections that were accepted go on."""
        self.gate.remove(self)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        closing: Deferred[None] | None = super().loseConnection()
        return closing

    stopListening = loseConnection


class UnixPort(Port):
    """A port on a Unix socket.

    :param owned: the path to remove in the end; None when the socket was inherited.
    """

    transport: type[Any] = UnixServer
    _type = "UNIX"

    def __init__(
        self,
        listening: socket.socket,
        factory: interfaces.IProtocolFactory,
        reactor: ReactorBase,
        gate: Gate,
        owned: str | None,
    ) -> None:
        super().__init__(listening, factory, reactor, gate)
        self._owned = owned
        self._identity = None if owned is None else _identity(owned)

    def startListening(self) -> None:
        """Begin to accept."""
        self.factory.doStart()  # type: ignore[union-attr]
        self._realPortNumber = self.socket.getsockname()
        self._begin()

    def connectionLost(self, reason: Failure) -> None:
        # Another process may have replaced the socket by its own in the meantime.
        if self._owned is not None and _identity(self._owned) == self._identity:
            os.unlink(self._owned)
        super().connectionLost(reason)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self.socket.getsockname())

    def _buildAddr(self, address: Any) -> UNIXAddress:
        return UNIXAddress(address)

    def _client_ip(self, peer: Any) -> str:
        return ""


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
