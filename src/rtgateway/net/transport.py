"""Stream transports that write at once.

Twisted's ``write`` never writes: it buffers, asks the poller for writability, returns to the loop,
sends there, and takes the request back; two ``epoll_ctl`` and one turn of the loop for every
answer. Here ``write`` sends what the kernel takes, and only the rest goes Twisted's way. What a
protocol or a producer can observe is otherwise Twisted's, and ``tests/net`` holds both to the same
expectations. `net.listen` and `net.connect` create these; nobody else has to.
"""

from __future__ import annotations

# Twisted's transports are not annotated throughout.
# mypy: allow-untyped-calls
import socket
import termios
from array import array
from collections.abc import Callable, Hashable, Iterable
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

if TYPE_CHECKING:
    # The mixin is only ever in front of one of Twisted's transports.
    _Transport = tcp.Connection
else:
    _Transport = object

__all__ = [
    "Client",
    "OptimisticWrite",
    "Server",
    "UnixClient",
    "UnixConnector",
    "UnixServer",
]

_DONE, _LOST = Failure(CONNECTION_DONE), Failure(CONNECTION_LOST)
_READ = 64 * 1024
"""Bytes asked for at a time. Allocating more costs more than the read itself (malloc's mmap)."""
_READ_MORE = 256 * 1024
"""Bytes asked for while a peer keeps filling `_READ`."""


class OptimisticWrite(_Transport):
    """Mixed in before a `tcp.Connection`; see the module."""

    _read_size = _READ
    _read_more = _READ_MORE
    _broken = False

    def write(self, data: bytes) -> None:
        """Send ``data`` now as far as the kernel takes it, and keep the rest.

        :raises TypeError: when ``data`` is not bytes, as Twisted does.
        """
        if (
            self._tempDataLen
            or self.dataBuffer
            or not self.connected
            or self._writeDisconnecting
            or self._aborting
            or self.TLS
            or data.__class__ is not bytes
            # A pull producer is asked for more by doWrite, which runs only for buffered bytes.
            or (self.producer is not None and not self.streamingProducer)
        ):
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            super().write(data)
        except OSError:
            # The protocol must not lose its connection inside its own write. Buffered bytes make
            # the reactor call doWrite, which fails again and ends the connection from there.
            self._broken = True
            super().write(data)
        else:
            if sent != len(data):
                super().write(data[sent:])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """The same as writing the parts joined; all must be bytes before any is sent."""
        parts = list(iovec)
        if all(isinstance(part, bytes) for part in parts):
            self.write(b"".join(parts))
        else:
            super().writeSequence(parts)

    def loseConnection(self) -> None:
        """Send what has been written, then close.

        With nothing to send and nobody who may yet write, there is no need to wait until the
        kernel would take more.
        """
        if (
            not self.connected
            or self.disconnecting
            or self.producer is not None
            or self._writeDisconnecting
            or self._tempDataLen
            or self.dataBuffer
            or self._broken
            or self.TLS
        ):
            super().loseConnection()
            return
        self.disconnecting = True
        self.stopReading()
        self.reactor.callLater(0, self._end)  # type: ignore[attr-defined]

    def _end(self) -> None:
        if not self.connected or self._aborting:
            return
        if self.unsent:
            # Something was written after all, and more than the kernel would take.
            self.startWriting()
        elif self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.connectionLost(_LOST)  # reset by the peer, before we were done
        else:
            self.connectionLost(_DONE)

    # abortConnection puts a function that takes anything in its place: hence the override.
    def doRead(self) -> ConnectionDone | ConnectionLost | None:  # type: ignore[override]
        """Read once and hand it to the protocol."""
        size = self._read_size
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            # A send that failed has taken the socket's error with it, so that a reset connection
            # reads like one that ended well.
            return CONNECTION_LOST if self._broken else CONNECTION_DONE
        length = len(data)
        if length == size:
            self._read_size = self._read_more
        elif length < _READ < size:
            self._read_size = _READ
        self.protocol.dataReceived(data)
        return None

    def read_at_most(self, size: int) -> None:
        """Read no more than so many bytes at a time from now on."""
        self._read_size = self._read_more = size

    @property
    def unsent(self) -> int:
        """Bytes written that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def undelivered(self) -> int:
        """Bytes written that the peer has not acknowledged yet, as far as the system tells."""
        waiting = array("i", [0])
        try:
            ioctl(self.fileno(), termios.TIOCOUTQ, waiting)
        except (OSError, ValueError):
            return self.unsent
        return self.unsent + waiting[0]


class _Admitted(OptimisticWrite):
    """An accepted connection, which gives its place back when it is gone."""

    leave: Callable[[Hashable], object] | None = None
    admitted_as: Hashable = None

    def connectionLost(self, reason: Failure) -> None:
        # Twisted may call this more than once for a connection.
        leave, self.leave = self.leave, None
        if leave is not None:
            leave(self.admitted_as)
        super().connectionLost(reason)


class _KeepsDescriptors(OptimisticWrite):
    """File descriptors queued on a Unix socket travel with the bytes that are written next."""

    _sendmsgQueue: list[int]

    def write(self, data: bytes) -> None:
        if self._sendmsgQueue:
            tcp.Connection.write(self, data)
        else:
            super().write(data)


class Server(_Admitted, tcp.Server):
    """An accepted TCP connection."""


class Client(OptimisticWrite, tcp.Connection):
    """An outgoing TCP connection, as `net.dial` has made it. It reads once it is told to."""

    logstr = "Client"
    _tlsClientDefault = True  # what startTLS asks

    def __init__(self, skt: socket.socket, reactor: Any) -> None:
        super().__init__(skt, None, reactor)  # type: ignore[arg-type]
        self.connected = 1

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._address(self.socket.getsockname())

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._address(self.socket.getpeername())

    def _address(self, where: tuple[Any, ...]) -> IPv4Address | IPv6Address:
        if self.socket.family == socket.AF_INET6:
            return IPv6Address("TCP", *where)
        return IPv4Address("TCP", *where)


class UnixServer(_KeepsDescriptors, _Admitted, unix.Server):
    """An accepted connection on a Unix socket. It takes no file descriptors from its peer."""


class UnixClient(_KeepsDescriptors, unix.Client):
    """An outgoing connection on a Unix socket. It takes no file descriptors from its peer."""


class UnixConnector(unix.Connector):
    """Makes a `UnixClient`."""

    def _makeTransport(self) -> Any:
        return UnixClient(self.address, self, self.reactor, self.checkPID)
