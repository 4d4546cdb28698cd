"""Opens the sockets that clients connect to: TCP, TLS, Unix, inherited from systemd.

`listen` turns one `config.Listener` into a port. The sockets are made here, so that whatever goes
wrong is one clear sentence; `net.port` accepts on them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from typing import cast

from twisted.internet import interfaces
from twisted.internet.base import ReactorBase
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from rtgateway.config import Listener
from rtgateway.net.gate import Gate
from rtgateway.net.port import Port, UnixPort
from rtgateway.net.secure import SecureTransport
from rtgateway.net.systemd import inherited_socket, variables
from rtgateway.net.tls import CertificateFileError, ServerCertificates

__all__ = ["ListenError", "listen"]


class ListenError(Exception):
    """A listener can't be opened. The text is a sentence for whoever starts the gateway."""


def listen(
    listener: Listener,
    factory: interfaces.IProtocolFactory,
    reactor: ReactorBase,
    gate: Gate,
    *,
    certificates: ServerCertificates | None = None,
    environ: Mapping[str, str] = os.environ,
) -> interfaces.IListeningPort:
    """Listen, and give what ``factory`` builds to every client that ``gate`` admits.

    :param certificates: of a listener with TLS, for whoever wants to reload them; made from the
        listener's settings when absent.
    :param environ: where systemd says what it passed.
    :raises ListenError: when the socket can't be had.
    """
    if listener.tls is not None:
        clock = cast("interfaces.IReactorTime", reactor)
        factory = _Secured(certificates or _certificates(listener), factory, clock)
    if not interfaces.IReactorFDSet.providedBy(reactor):
        return _foreign(listener, factory, reactor)
    port: Port
    if listener.tcp is not None:
        port = Port(_tcp_socket(*listener.address, listener.backlog), factory, reactor, gate)
    elif listener.unix is not None:
        path = str(listener.unix)
        listening = _unix_socket(path, int(listener.mode, 8), listener.backlog)
        port = UnixPort(listening, factory, reactor, gate, path)
    else:
        port = _inherited(listener, factory, reactor, gate, environ)
    port.startListening()
    return port


def _inherited(
    listener: Listener,
    factory: interfaces.IProtocolFactory,
    reactor: ReactorBase,
    gate: Gate,
    environ: Mapping[str, str],
) -> Port:
    assert listener.systemd is not None
    try:
        listening = inherited_socket(listener.systemd, variables(environ), os.getpid())
    except LookupError as error:
        raise ListenError(str(error)) from None
    if listening.family == socket.AF_UNIX:
        return UnixPort(listening, factory, reactor, gate, None)
    return Port(listening, factory, reactor, gate)


def _certificates(listener: Listener) -> ServerCertificates:
    assert listener.tls is not None
    try:
        return ServerCertificates(listener.tls)
    except CertificateFileError as error:
        raise ListenError(str(error)) from None


@implementer(interfaces.IProtocolFactory)
class _Secured:
    """Puts TLS between connections and what ``factory`` builds for them."""

    def __init__(
        self,
        certificates: ServerCertificates,
        factory: interfaces.IProtocolFactory,
        clock: interfaces.IReactorTime,
    ) -> None:
        self._certificates = certificates
        self._factory = factory
        self._clock = clock

    def buildProtocol(self, addr: interfaces.IAddress) -> SecureTransport | None:
        """As ``factory`` decides: None refuses the connection."""
        protocol = self._factory.buildProtocol(addr)
        if protocol is None:
            return None
        return SecureTransport(protocol, self._certificates, self._clock)

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()


def _tcp_socket(host: str, port: int, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # AI_PASSIVE checks the address before there is a socket to close.
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except socket.gaierror as error:
        raise ListenError(f"{host} is no address to listen on: {error.strerror}") from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise ListenError(_tcp_sentence(host, port, error)) from None
    return listening


def _tcp_sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} on {host} needs privileges that this process does not have"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine"
    return f"port {port} on {host} can't be listened on: {error.strerror}"


def _unix_socket(path: str, mode: int, backlog: int) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The socket has its permissions from the start: nobody slips in before a chmod.
    umask = os.umask(0o777 & ~mode)
    try:
        listening.bind(path)
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise ListenError(f"Unix socket {path} can't be listened on: {reason}") from None
    finally:
        os.umask(umask)
    return listening


def _remove_stale(path: str) -> None:
    """Remove a socket that a process left behind; refuse to take one that answers."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ListenError(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"Unix socket {path} can't be listened on: {error.strerror}") from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog would block; it is a sign of life too.
        probe.setblocking(False)
        answer = probe.connect_ex(path)
    if answer != errno.ECONNREFUSED:
        raise ListenError(f"Unix socket {path} is in use by another process")
    try:
        os.unlink(path)
    except OSError as error:
        raise ListenError(f"stale Unix socket {path} can't be removed: {error.strerror}") from None


def _foreign(
    listener: Listener, factory: interfaces.IProtocolFactory, reactor: ReactorBase
) -> interfaces.IListeningPort:
    """A reactor without file descriptors (Windows): its own transports, without a gate."""
    if listener.tcp is None:
        raise ListenError(f"{listener.label} needs a POSIX system")
    host, port = listener.address
    try:
        return interfaces.IReactorTCP(reactor).listenTCP(
            port, cast("ServerFactory", factory), listener.backlog, host
        )
    except CannotListenError as error:
        raise ListenError(f"port {port} on {host} can't be listened on: {error}") from None
