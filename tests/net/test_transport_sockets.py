"""Twisted's transports and ours are held to the same expectations, on real sockets.

The classes named after Twisted show that the expectations are Twisted's own; the others that
`rtgateway.net` fulfils them too, on Twisted's reactor and on ours.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
from rtgateway.net.reactor import EpollReactor
from tests.net import expectations as expected
from tests.net.wires import OurTcp, OurTls, OurUnix, TwistedTcp, TwistedTls, TwistedUnix


class TwistedTcpTests(TwistedTcp, expected.TcpExpectations):
    """Twisted's TCP transport."""


class TwistedUnixTests(TwistedUnix, expected.SocketExpectations):
    """Twisted's transport for Unix sockets."""


class TwistedTlsTests(TwistedTls, expected.StreamExpectations):
    """Twisted's TLS over its TCP transport."""


class TcpTests(OurTcp, expected.TcpExpectations):
    """Our TCP transport on Twisted's reactor."""


class UnixTests(OurUnix, expected.SocketExpectations):
    """Our transport for Unix sockets on Twisted's reactor."""


class TlsTests(OurTls, expected.StreamExpectations):
    """TLS over our transport on Twisted's reactor."""


class ReactorTcpTests(OurTcp, expected.TcpExpectations):
    """Our TCP transport on our reactor."""

    reactor_class = EpollReactor


class ReactorUnixTests(OurUnix, expected.SocketExpectations):
    """Our transport for Unix sockets on our reactor."""

    reactor_class = EpollReactor


class ReactorTlsTests(OurTls, expected.StreamExpectations):
    """TLS over our transport on our reactor."""

    reactor_class = EpollReactor
