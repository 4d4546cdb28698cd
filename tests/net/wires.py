"""Connected pairs of transports: Twisted's own and ours, over TCP, Unix sockets and TLS."""

from __future__ import annotations

# mypy: allow-untyped-calls
import functools
import os
import socket
from pathlib import Path
from typing import Any, ClassVar, cast

import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from rtgateway.config import Certificate, Listener, Tls, UpstreamTls
from rtgateway.net.connect import connect, connect_unix
from rtgateway.net.gate import Gate
from rtgateway.net.listen import listen
from rtgateway.net.tls import client_tls
from tests.net.loop import LoopTestCase, Recorder

__all__ = ["OurTcp", "OurTls", "OurUnix", "TwistedTcp", "TwistedTls", "TwistedUnix", "authority"]


@functools.cache
def authority() -> trustme.CA:
    """One certificate authority for all tests; keys take time to make."""
    return trustme.CA()


@functools.cache
def certificate(*names: str) -> tuple[bytes, bytes]:
    """(chain, key) in PEM for some names."""
    issued = authority().issue_cert(*names)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return chain, issued.private_key_pem.bytes()


class Wire(LoopTestCase):
    """Makes connected pairs. One subclass for each kind of transport."""

    secure: ClassVar = False
    aborted: ClassVar[type[BaseException]] = ConnectionAborted
    """What the protocol learns that aborted its connection."""
    abrupt: ClassVar[tuple[type[BaseException], ...]] = (ConnectionLost,)
    """What its peer may learn."""

    def factory(self, server: Recorder) -> Factory:
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: server  # type: ignore[method-assign, assignment]
        return factory

    async def pair(
        self, server: Recorder | None = None, client: Recorder | None = None
    ) -> tuple[Recorder, Recorder]:
        """A server's and a client's protocol, connected to each other (TLS included)."""
        server, client = server or Recorder(), client or Recorder()
        port = self.serve(self.factory(server))
        await self.dial(port, client)
        await self.until(lambda: server.transport is not None and self.established(server))
        await port.stopListening()
        return server, client

    def established(self, protocol: Recorder) -> bool:
        return True

    def serve(self, factory: Factory) -> Any:
        raise NotImplementedError

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        raise NotImplementedError

    def socket_of(self, protocol: Recorder) -> socket.socket:
        """The socket under a transport."""
        transport = protocol.to.transport if self.secure else protocol.to
        return cast("socket.socket", transport.socket)

    def narrow(self, protocol: Recorder) -> None:
        """Let the kernel take little at a time from this transport."""
        self.socket_of(protocol).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)

    async def close(self, *protocols: Recorder) -> None:
        """End connections that a test left open."""
        for protocol in protocols:
            if not protocol.reasons:
                protocol.to.abortConnection()
        for protocol in protocols:
            if not protocol.reasons:
                await protocol.lost

    def files(self, *names: str) -> Certificate:
        """A certificate for some names, in files."""
        folder = Path(self.temporary("x")).parent
        chain, key = certificate(*names)
        (folder / "cert.pem").write_bytes(chain)
        (folder / "key.pem").write_bytes(key)
        return Certificate(certificate=folder / "cert.pem", key=folder / "key.pem")

    def ca_file(self) -> Path:
        """The authority that issued them, in a file."""
        path = Path(self.temporary("ca.pem"))
        path.write_bytes(authority().cert_pem.bytes())
        return path

    def server_tls(self) -> CertificateOptions:
        """How a server of Twisted's for gateway.test speaks TLS."""
        chain, key = certificate("gateway.test")
        return CertificateOptions(
            # pyOpenSSL takes cryptography's objects, and deprecates its own that Twisted declares.
            privateKey=cast("Any", load_pem_private_key(key, None)),
            certificate=cast("Any", load_pem_x509_certificates(chain)[0]),
            acceptableProtocols=[b"http/1.1"],
        )

    def upstream_tls(self) -> Any:
        """How a client speaks TLS with it."""
        return client_tls(UpstreamTls(ca=self.ca_file()), "gateway.test")


class _Caller(ClientFactory):
    """Connects with Twisted's own transport and tells when it is done."""

    noisy = False

    def __init__(self, client: Recorder) -> None:
        self.client = client
        self.done: Deferred[object] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        made = self.client.on_made

        def connected() -> None:
            self.client.on_made = made
            made()
            self.done.callback(None)

        self.client.on_made = connected
        return self.client

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.done.errback(reason)


class TwistedTcp(Wire):
    def serve(self, factory: Factory) -> Any:
        return self.reactor.listenTCP(0, factory, interface="127.0.0.1")

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        caller = _Caller(client)
        self.reactor.connectTCP("127.0.0.1", port.getHost().port, caller)
        return caller.done


class TwistedUnix(Wire):
    # There is no reset on a Unix socket.
    abrupt = (ConnectionLost, ConnectionDone)

    def serve(self, factory: Factory) -> Any:
        return self.reactor.listenUNIX(self.temporary("s"), factory)

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        caller = _Caller(client)
        self.reactor.connectUNIX(port.getHost().name, caller)
        return caller.done


class TwistedTls(TwistedTcp):
    secure = True
    # Twisted's TLS takes its own abort for an end without a close_notify.
    aborted = ConnectionLost

    def established(self, protocol: Recorder) -> bool:
        return bool(protocol.to._handshakeDone)

    def serve(self, factory: Factory) -> Any:
        secured = TLSMemoryBIOFactory(self.server_tls(), False, factory, self.reactor)
        secured.protocol = TLSMemoryBIOProtocol
        return super().serve(cast("Factory", secured))

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        caller = _Caller(client)
        secured = TLSMemoryBIOFactory(self.upstream_tls(), True, caller, self.reactor)
        secured.protocol = TLSMemoryBIOProtocol
        self.reactor.connectTCP("127.0.0.1", port.getHost().port, secured)
        return caller.done


class OurTcp(Wire):
    def serve(self, factory: Factory) -> Any:
        return listen(Listener(tcp="127.0.0.1:0"), factory, self.reactor, Gate(100, 100))

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        number = port.getHost().port
        return connect("127.0.0.1", number, client, timeout=5, reactor=self.reactor)


class OurUnix(Wire):
    # There is no reset on a Unix socket.
    abrupt = (ConnectionLost, ConnectionDone)

    def serve(self, factory: Factory) -> Any:
        listener = Listener(unix=Path(self.temporary("s")))
        return listen(listener, factory, self.reactor, Gate(100, 100))

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        path = os.fsdecode(port.getHost().name)
        return connect_unix(path, client, timeout=5, reactor=self.reactor)


class OurTls(Wire):
    secure = True

    def established(self, protocol: Recorder) -> bool:
        return bool(protocol.to.established)

    def serve(self, factory: Factory) -> Any:
        tls = Tls(certificates=(self.files("gateway.test"),))
        listener = Listener(tcp="127.0.0.1:0", tls=tls)
        return listen(listener, factory, self.reactor, Gate(100, 100))

    def dial(self, port: Any, client: Recorder) -> Deferred[Any]:
        number = port.getHost().port
        tls = self.upstream_tls()
        return connect("127.0.0.1", number, client, timeout=5, reactor=self.reactor, tls=tls)
