"""What an active check looks at, and the connections that are made to it.

`Dialer` connects as the data path does (`net.connect`: same resolver, same TLS), once for each
check; ``upstream.probe`` asks over what it made. No connection takes more than `MOST` bytes in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from twisted.internet import interfaces
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from rtgateway import config
from rtgateway.net.connect import connect
from rtgateway.net.tls import client_tls

__all__ = ["MOST", "CheckTarget", "Dialer", "Line"]

MOST = 64 * 1024
"""Bytes of an answer, head included, that are read and looked at."""


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """What is checked, and where it is.

    :ivar url: without a trailing slash, such as ``http://users.internal:3001/base``, or
        ``tcp://queue.internal:5672``. Of an instance it is the base of the path that is asked for.
    :ivar authority: the Host that is sent.
    :ivar address: the IP address to connect to instead of resolving the URL's host.
    :ivar tls: how to speak TLS; None for plain TCP. The URL's scheme says nothing about it.
    :ivar name: the service's name, or the dependency's, for the log.
    """

    url: str
    authority: bytes
    address: str | None = None
    tls: interfaces.IOpenSSLClientConnectionCreator | None = field(default=None, repr=False)
    name: str = ""

    @classmethod
    def of_url(cls, url: str, name: str = "") -> CheckTarget:
        """A dependency at an ``http`` or ``https`` URL; its certificate is verified by its host."""
        parts = urlsplit(url)
        tls = None
        if parts.scheme == "https":
            tls = client_tls(config.UpstreamTls(), parts.hostname or "")
        authority = parts.netloc.rpartition("@")[2]
        return cls(url, authority.encode("ascii"), tls=tls, name=name)

    @classmethod
    def of_tcp(cls, host: str, port: int, name: str = "") -> CheckTarget:
        """A dependency that has to accept connections. IPv6 addresses are without brackets."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return cls(f"tcp://{authority}", authority.encode("ascii"), name=name)

    @property
    def label(self) -> str:
        """Name and URL for a log; without user and query, which may carry secrets."""
        parts = urlsplit(self.url)
        where = parts.netloc.rpartition("@")[2]
        return f"{self.name} {parts.scheme}://{where}{parts.path}".lstrip()


@implementer(interfaces.IStreamClientEndpoint, IAgentEndpointFactory)
class Dialer:
    """Connects to the target, whatever a URL says.

    :ivar line: the connection that was made last.
    """

    def __init__(self, target: CheckTarget, port: int | None, timeout: float, reactor: Any) -> None:
        parts = urlsplit(target.url)
        self._host = target.address or parts.hostname or ""
        self._port = port or parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = target.tls
        self._timeout = timeout
        self._reactor = reactor
        self.line: Line | None = None

    async def dial(self, protocol: interfaces.IProtocol | None) -> None:
        """Connect ``protocol``, or with None just connect.

        :raises UpstreamFailed: see `net.connect`; the same for `UpstreamTimeout`.
        """
        self.line = await connect(
            self._host,
            self._port,
            Line(protocol),
            timeout=self._timeout,
            reactor=self._reactor,
            tls=self._tls,
        )

    def endpointForURI(self, uri: URI) -> Dialer:
        """The agent's question where to connect: always to the target."""
        return self

    def connect(self, protocolFactory: interfaces.IProtocolFactory) -> Deferred[Any]:
        """`IStreamClientEndpoint`, for the agent."""
        protocol = protocolFactory.buildProtocol(cast("interfaces.IAddress", None))
        assert protocol is not None
        return Deferred.fromCoroutine(self.dial(protocol)).addCallback(lambda _: protocol)


class Line(Protocol):
    """A connection for one check, which is cut when `MOST` bytes have come.

    :ivar full: that has happened.
    """

    def __init__(self, protocol: interfaces.IProtocol | None) -> None:
        self._protocol = protocol
        self._room = MOST
        self.full = False

    def connectionMade(self) -> None:
        if self._protocol is not None:
            assert self.transport is not None
            self._protocol.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is None or self.full:
            return
        taken = data[: self._room]
        self._room -= len(taken)
        self.full = not self._room
        self._protocol.dataReceived(taken)
        if self.full:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)

    def hang_up(self, *, orderly: bool) -> None:
        """End the connection without waiting for the other side, unless it has ended."""
        transport = self.transport
        if not orderly or transport is None:
            self._abort()
            return
        transport.loseConnection()
        if isinstance(transport, TLSMemoryBIOProtocol):
            # RFC 8446, 6.1: who closes tells it, and need not wait to be told the same.
            cast("interfaces.ITransport", transport.transport).loseConnection()

    def _abort(self) -> None:
        if self.transport is not None:
            cast("interfaces.ITCPTransport", self.transport).abortConnection()
