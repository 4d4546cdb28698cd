"""Connections to instances, made within a deadline, and ready when they are handed over.

The pool calls `connect`; what it gets back writes optimistically (`net.transport`), has finished
its TLS handshake, and has Nagle's algorithm off. Names are resolved by the reactor's resolver;
several addresses are tried in a race (`net.racing`), in which a connection counts when its TLS
handshake is over.
"""

from __future__ import annotations

# Twisted's connectors are not annotated throughout.
# mypy: allow-untyped-calls
from functools import partial
from typing import Any, Generic, TypeVar, cast

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error, interfaces
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.net.dial import Dial
from rtgateway.net.racing import ATTEMPT_DELAY, interleaved, race
from rtgateway.net.transport import Client, UnixConnector

__all__ = ["connect", "connect_unix", "explain"]

P = TypeVar("P", bound=Protocol)

_ClientTls = interfaces.IOpenSSLClientConnectionCreator

_MOST_ADDRESSES = 8
"""Addresses of one name that are tried: a name may have hundreds."""


def connect(
    host: str,
    port: int,
    protocol: P,
    *,
    timeout: float,
    reactor: ReactorBase,
    tls: _ClientTls | None = None,
) -> Deferred[P]:
    """Connect ``protocol`` to ``host``, which is a name or an IP address without brackets.

    :param timeout: seconds for everything: resolving, connecting, the TLS handshake.
    :param tls: how to speak TLS, from `net.tls.client_tls`; None for plain TCP.
    :return: fires with ``protocol`` after its ``connectionMade``. Cancelling it ends the attempt.
        Fails with `UpstreamFailed` or `UpstreamTimeout`, both retryable: nothing has been sent.
    """
    if tls is None and _is_address(host) and interfaces.IReactorFDSet.providedBy(reactor):
        # The way of most: one address, one wait.
        return _Attempt(host, port, protocol, None).dial(timeout, reactor)
    connecting = Deferred.fromCoroutine(_connect(host, port, protocol, timeout, reactor, tls))
    return connecting.addTimeout(timeout, cast("interfaces.IReactorTime", reactor), _too_late)


def connect_unix(
    path: str,
    protocol: P,
    *,
    timeout: float,
    reactor: ReactorBase,
    tls: _ClientTls | None = None,
) -> Deferred[P]:
    """Connect ``protocol`` to the Unix socket at ``path``; otherwise like `connect`."""

    attempt = _Attempt(path, 0, protocol, tls)
    connecting = attempt.outcome
    UnixConnector(path, attempt.factory(reactor), timeout, reactor, 0).connect()
    return connecting.addTimeout(timeout, cast("interfaces.IReactorTime", reactor), _too_late)


async def _connect(
    host: str, port: int, protocol: P, timeout: float, reactor: ReactorBase, tls: _ClientTls | None
) -> P:
    deadline = reactor.seconds() + timeout
    addresses = [host]
    if not _is_address(host):
        addresses = interleaved(await _resolve(host, reactor))[:_MOST_ADDRESSES]
    if not addresses:
        raise UpstreamFailed(f"{host}: no such name", kind="connect", retryable=True)
    left = deadline - reactor.seconds()

    def attempt(address: str) -> Deferred[P]:
        attempt = _Attempt(address, port, protocol, tls)
        if interfaces.IReactorFDSet.providedBy(reactor):
            return attempt.dial(left, reactor)
        # Not a POSIX reactor: its transports are its own.
        outcome = attempt.outcome
        interfaces.IReactorTCP(reactor).connectTCP(address, port, attempt.factory(reactor), left)
        return outcome

    if len(addresses) == 1:
        return await attempt(addresses[0])
    # However short the time, each gets its share of it.
    delay = min(ATTEMPT_DELAY, left / len(addresses))
    clock = cast("interfaces.IReactorTime", reactor)
    return await race([partial(attempt, address) for address in addresses], clock, delay)


def _is_address(host: str) -> bool:
    return isIPAddress(host) or isIPv6Address(host)


class _Attempt(ClientFactory, Generic[P]):
    """One attempt at one address.

    :param address: an IP address, or the path of a socket.
    :ivar outcome: fires with the protocol; to be taken before anything is started.
    """

    noisy = False

    def __init__(self, address: str, port: int, protocol: P, tls: _ClientTls | None) -> None:
        self._address = address
        self._port = port
        self._protocol = protocol
        self._tls = tls
        self._dial: Dial | None = None
        self._connector: interfaces.IConnector | None = None
        self._newcomer: _Newcomer | None = None
        self._outcome: Deferred[P] | None = Deferred(self._cancelled)

    @property
    def outcome(self) -> Deferred[P]:
        assert self._outcome is not None
        return self._outcome

    def factory(self, reactor: ReactorBase) -> ClientFactory:
        """What makes the protocols of the connection: this, or TLS around it."""
        if self._tls is None:
            return self
        wrapper = TLSMemoryBIOFactory(self._tls, True, self, cast("IReactorTime", reactor))
        # Not the one that gathers small writes: ours are whole messages already.
        wrapper.protocol = TLSMemoryBIOProtocol
        return cast("ClientFactory", wrapper)

    def dial(self, timeout: float, reactor: ReactorBase) -> Deferred[P]:
        """Connect by TCP, within ``timeout`` seconds."""
        outcome = self.outcome

        def made(client: Client) -> None:
            self._dial = None
            client.startReading()
            if self._tls is None:
                client.setTcpNoDelay(True)
                self.made(client, "protocol")
                return
            protocol = self.factory(reactor).buildProtocol(client.getPeer())
            assert protocol is not None
            client.protocol = protocol
            protocol.makeConnection(client)

        self._dial = Dial(self._address, self._port, timeout, reactor, made, self.failed)
        self._dial.start()
        return outcome

    def startedConnecting(self, connector: interfaces.IConnector) -> None:
        self._connector = connector

    def buildProtocol(self, addr: interfaces.IAddress | None) -> Protocol:
        self._newcomer = _Newcomer(self, secure=self._tls is not None)
        return self._newcomer

    def clientConnectionFailed(self, connector: interfaces.IConnector, reason: Failure) -> None:
        self.failed(reason)

    def made(self, transport: interfaces.ITransport, place: str) -> None:
        """The connection stands: the protocol takes it over from the newcomer."""
        protocol = self._protocol
        # The transport refers to this object for as long as it lives; the connection may have
        # another protocol by then.
        del self._protocol
        self._newcomer = self._connector = None
        setattr(transport, place, protocol)
        protocol.makeConnection(transport)
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.callback(protocol)

    def failed(self, reason: Failure) -> None:
        """The connection was not made, or was lost before it was ready."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        if reason.check(error.TimeoutError):
            outcome.errback(UpstreamTimeout("connect", retryable=True))
        else:
            detail = f"{self._where()}: {explain(reason.value)}"
            outcome.errback(UpstreamFailed(detail, kind="connect", retryable=True))

    def _cancelled(self, outcome: Deferred[P]) -> None:
        self._outcome = None
        if self._dial is not None:
            self._dial.cancel()
        elif self._newcomer is not None and self._newcomer.transport is not None:
            cast("interfaces.ITCPTransport", self._newcomer.transport).abortConnection()
        elif self._connector is not None:
            self._connector.stopConnecting()

    def __repr__(self) -> str:
        return f"<connection attempt to {self._where()}>"

    def _where(self) -> str:
        address, port = self._address, self._port
        if not port:
            return address
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@implementer(interfaces.IHandshakeListener)
class _Newcomer(Protocol):
    """Keeps the protocol's place until the connection, and TLS on it, stands."""

    def __init__(self, attempt: _Attempt[Any], *, secure: bool) -> None:
        self._attempt = attempt
        self._secure = secure

    def connectionMade(self) -> None:
        assert self.transport is not None
        cast("interfaces.ITCPTransport", self.transport).setTcpNoDelay(True)
        if not self._secure:
            self._attempt.made(self.transport, "protocol")

    def handshakeCompleted(self) -> None:
        assert self.transport is not None
        self._attempt.made(self.transport, "wrappedProtocol")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._attempt.failed(reason)


def _resolve(host: str, reactor: ReactorBase) -> Deferred[list[str]]:
    """The addresses of ``host`` in the resolver's order; none when there is no such name."""
    answer = _Addresses()
    reactor.nameResolver.resolveHostName(answer, host, 0, [IPv4Address, IPv6Address], "TCP")
    return answer.complete


@implementer(interfaces.IResolutionReceiver)
class _Addresses:
    """Gathers what a resolver finds. Resolving can't be stopped; a late answer is dropped."""

    def __init__(self) -> None:
        self.complete: Deferred[list[str]] = Deferred()
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: interfaces.IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: interfaces.IAddress) -> None:
        host = cast("IPv4Address | IPv6Address", address).host
        if host not in self._found:
            self._found.append(host)

    def resolutionComplete(self) -> None:
        # A cancelled Deferred without a canceller takes one more result silently.
        self.complete.callback(self._found)


def _too_late(result: object, timeout: float) -> Any:
    raise UpstreamTimeout("connect", retryable=True)


def explain(reason: BaseException | None) -> str:
    """Why a connection was not made, or was lost, in words for a log."""
    if isinstance(reason, VerificationError):
        return "the certificate is not for this name"
    if isinstance(reason, SSL.Error) and reason.args and isinstance(reason.args[0], list):
        return "TLS: " + ", ".join(str(entry[-1]) for entry in reason.args[0])
    if isinstance(reason, error.ConnectError) and reason.osError:
        return str(reason.args[0])
    return str(reason).rstrip(".")
