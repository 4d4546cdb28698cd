"""TLS for accepted connections: a protocol to the TCP transport, a transport to the protocol.

It runs the standard library's TLS over memory BIOs: one call into OpenSSL and one into the kernel
for a message, each way, and no exception. To the protocol above, everything that has to do with
time and backpressure is the TCP transport's own behaviour, and ``tests/net`` holds it to the same
expectations. `net.listen` puts a `SecureFactory` in front of a listener's factory.

What ends a connection: a close_notify, after which the protocol hears `ConnectionDone`; an end
without one, which may be somebody's attack (RFC 8446, 6.1) and is `ConnectionLost`, as whatever
OpenSSL refuses is. Our own `SecureTransport.loseConnection` sends a close_notify and waits for the
peer's end, within bounds.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

from twisted.internet import interfaces
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.net.hello import read_hello
from rtgateway.net.tls import ALPN, ServerCertificates

__all__ = ["SecureFactory", "SecureTransport"]

_RECORD = 16 * 1024
"""Bytes in a record at most. Asking for as many leaves none of a record behind in OpenSSL."""
_FEED = 32 * 1024
"""Bytes given to OpenSSL at a time. Its buffers never shrink, and idle connections are many."""
_GATHER = 4
"""Records that are sent in one piece."""
_UNTAKEN = 16 * 1024
"""Bytes of TLS's own answers that a peer may provoke without taking them."""
_PATIENCE = 5.0
"""Seconds without progress that a peer may take to end a connection that we have ended."""
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""The alert (RFC 7301, 3.2) as a record."""

_HELLO, _HANDSHAKE, _OPEN, _CLOSING, _OVER = range(5)
"""Phases, in this order: waiting for a ClientHello; shaking hands; open; close_notify sent, the
peer's end awaited; nothing goes in or out any more."""
_PHASES = ("waiting for a hello", "handshake", "open", "closing", "over")


@implementer(interfaces.IProtocolFactory)
class SecureFactory:
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


@implementer(interfaces.IProtocol, interfaces.ISSLTransport, interfaces.IPushProducer)
@implementer(interfaces.IConsumer, interfaces.INegotiated)
class SecureTransport:
    """The server's side of one connection; see the module."""

    __slots__ = (
        "__weakref__",
        "_certificates",
        "_clock",
        "_flight",
        "_held",
        "_incoming",
        "_outgoing",
        "_phase",
        "_producer",
        "_provoked",
        "_streaming",
        "_timer",
        "_tls",
        "_trouble",
        "_undelivered",
        "disconnecting",
        "protocol",
        "transport",
    )

    # Both are there from the ClientHello on.
    _incoming: ssl.MemoryBIO
    _tls: ssl.SSLObject
    transport: Any  # several interfaces at once: TCP transport, consumer, producer

    def __init__(
        self,
        protocol: interfaces.IProtocol,
        certificates: ServerCertificates,
        clock: interfaces.IReactorTime,
    ) -> None:
        self.protocol = protocol
        self.disconnecting = False
        self._certificates = certificates
        self._clock = clock
        self._phase = _HELLO
        self._flight = b""
        self._outgoing = ssl.MemoryBIO()
        self._held: list[bytes] | None = None
        self._producer: interfaces.IProducer | None = None
        self._streaming = False
        self._provoked = 0
        self._trouble: ssl.SSLError | None = None
        self._timer: interfaces.IDelayedCall | None = None
        self._undelivered = 0

    # -- protocol of the TCP transport --------------------------------------------------------

    def makeConnection(self, transport: interfaces.ITransport) -> None:
        """The protocol is connected at once: its deadlines include the handshake."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self.protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if len(data) > _FEED:
            for start in range(0, len(data), _FEED):
                self.dataReceived(data[start : start + _FEED])
        elif self._phase == _OPEN or self._phase == _CLOSING:
            self._incoming.write(data)
            self._deliver()
        elif self._phase == _HELLO:
            self._hear(data)
        elif self._phase == _HANDSHAKE:
            self._incoming.write(data)
            self._shake_hands()

    def connectionLost(self, reason: Failure) -> None:
        cut = self._phase <= _OPEN and not self.disconnecting
        if self._trouble is not None:
            reason = Failure(ConnectionLost(f"TLS: {self._trouble.reason or self._trouble}"))
        elif cut and reason.check(ConnectionDone):
            reason = Failure(ConnectionLost("The peer ended without a close_notify"))
        self._phase = _OVER
        self._held = self._producer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        protocol = self.protocol
        # As Twisted's transports do: no cycle keeps the connection's buffers alive.
        del self.protocol
        protocol.connectionLost(reason)

    # -- the handshake ------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        self._flight += data
        hello = read_hello(self._flight)
        if hello is None:
            return
        if hello.protocols and ALPN not in hello.protocols:
            self.transport.write(_NO_APPLICATION_PROTOCOL)
            self._end()
            return
        self._incoming = ssl.MemoryBIO()
        self._incoming.write(self._flight)
        self._flight = b""
        context = self._certificates.context_for(hello.server_name)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._phase = _HANDSHAKE
        self._shake_hands()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._answer()
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._phase = _OPEN
            self._answer()  # session tickets among it
            self._release()
            if self._incoming.pending and self._phase != _OVER:
                self._deliver()

    def _release(self) -> None:
        """Send what was written before there was a key to encrypt it with."""
        held, self._held = self._held, None
        if held is not None:
            self.write(b"".join(held))
            if self._producer is not None and self._streaming:
                # If the TCP transport has had enough of it, the next write pauses it again.
                self._producer.resumeProducing()  # type: ignore[attr-defined]
        if self.disconnecting and self._producer is None and self._phase == _OPEN:
            self._close()

    # -- records in and out -------------------------------------------------------------------

    def _deliver(self) -> None:
        """Give the protocol what can be decrypted; after its own end, only look for the peer's."""
        parts = []
        ended = False
        trouble = None
        read, incoming = self._tls.read, self._incoming
        try:
            while True:
                part = read(_RECORD)
                if not part:
                    ended = True
                    break
                parts.append(part)
                if not incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as error:
            trouble = error
        if parts and self._phase == _OPEN:
            self.protocol.dataReceived(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._phase == _OVER:
            return
        if trouble is not None:
            self._fail(trouble)
        elif ended:
            if self._phase == _OPEN:
                self._say_goodbye()
            self._end()
        elif self._outgoing.pending:
            self._answer()

    def _answer(self) -> None:
        """Send what TLS itself has to say: handshake, key update, alert."""
        answer = self._outgoing.read()
        if not answer:
            return
        self.transport.write(answer)
        if not getattr(self.transport, "unsent", 0):
            self._provoked = 0
            return
        self._provoked += len(answer)
        if self._provoked > _UNTAKEN:
            self.abortConnection()

    def write(self, data: bytes) -> None:
        """Encrypt and send. Ignored after `loseConnection`, unless a producer is registered."""
        if self._phase != _OPEN:
            self._hold(data)
            return
        try:
            if len(data) > _RECORD:
                self._write_many(data)
            elif data:
                self._tls.write(data)
                self.transport.write(self._outgoing.read())
        except ssl.SSLError as error:
            self._fail(error)

    def _write_many(self, data: bytes) -> None:
        view = memoryview(data)
        records = []
        for start in range(0, len(view), _RECORD):
            self._tls.write(view[start : start + _RECORD])
            records.append(self._outgoing.read())
            if len(records) == _GATHER:
                self.transport.write(b"".join(records))
                records.clear()
        if records:
            self.transport.write(b"".join(records))

    def _hold(self, data: bytes) -> None:
        if self._phase > _OPEN or (self.disconnecting and self._producer is None):
            return
        if self._held is None:
            self._held = []
            if self._producer is not None and self._streaming:
                self._producer.pauseProducing()  # type: ignore[attr-defined]
        self._held.append(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """The same as writing the parts joined."""
        self.write(b"".join(iovec))

    # -- the end ------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Send what was written and a close_notify, then close when the peer has ended too.

        A producer that is registered finishes first. The protocol gets nothing more to read.
        """
        if self.disconnecting:
            return
        self.disconnecting = True
        if self._phase == _OPEN:
            if self._producer is None:
                self._close()
        elif self._held is None and self._producer is None:
            # There is no key yet, and nothing to say.
            self._end()
        else:
            self._watch()

    def loseWriteConnection(self) -> None:
        """The same: TLS reads on until the peer ends, but the protocol is told no more of it."""
        self.loseConnection()

    def abortConnection(self) -> None:
        """Close at once. The peer sees a reset."""
        self._phase = _OVER
        self.disconnecting = True
        self._held = None
        self.transport.abortConnection()

    def _close(self) -> None:
        self._phase = _CLOSING
        # Whoever paused it is done with it; the peer's end has to be read.
        self.transport.resumeProducing()
        if self._say_goodbye():
            self._end()
        else:
            self._watch()

    def _say_goodbye(self) -> bool:
        """Send our close_notify; whether the peer's is here already."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # usually SSLWantReadError, of the peer's
            both = False
        else:
            both = True
        self.transport.write(self._outgoing.read())
        return both

    def _fail(self, trouble: ssl.SSLError) -> None:
        self._trouble = trouble
        # The alert that tells the peer.
        self.transport.write(self._outgoing.read())
        self._end()

    def _end(self) -> None:
        """Close when everything is sent."""
        self._phase = _OVER
        self.disconnecting = True
        self._held = None
        self.transport.loseConnection()
        self._watch()

    def _watch(self) -> None:
        """Bound the time that the end takes, from when the peer stops taking what it gets."""
        if self._timer is None:
            self._undelivered = self.undelivered
            self._timer = self._clock.callLater(_PATIENCE, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._phase == _OPEN:  # the handshake went on, and a producer has not finished
            return
        left = self.undelivered
        if left < self._undelivered:
            self._watch()
        elif self._phase == _CLOSING and not left:
            # It has everything and only does not say so: no reason for a reset.
            self._end()
        else:
            self.abortConnection()

    # -- producers ----------------------------------------------------------------------------

    def registerProducer(self, producer: interfaces.IProducer, streaming: bool) -> None:
        """The TCP transport pauses, resumes or asks it, as if there were no TLS.

        :raises RuntimeError: when there is one already.
        """
        if self._phase > _OPEN:
            producer.stopProducing()
            return
        if self._producer is None:
            # Before it is registered: a pull producer is asked, and may be done, inside.
            self._producer, self._streaming = producer, streaming
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        self.transport.unregisterProducer()
        if self.disconnecting and self._phase == _OPEN:
            self._close()

    def pauseProducing(self) -> None:
        if self._phase <= _OPEN:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes of records that the kernel has not taken yet."""
        return int(getattr(self.transport, "unsent", 0))

    @property
    def undelivered(self) -> int:
        """Bytes of records that the peer has not acknowledged yet, as far as the system tells."""
        return int(getattr(self.transport, "undelivered", 0))

    @property
    def established(self) -> bool:
        """Whether the handshake is done and nothing has ended yet."""
        return self._phase == _OPEN

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What was agreed on (ALPN); None before the handshake, or when the client offered none."""
        agreed = self._tls.selected_alpn_protocol() if self.established else None
        return None if agreed is None else agreed.encode("ascii")

    def getPeerCertificate(self) -> None:
        """Clients are not asked for one."""

    def getHandle(self) -> object:
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

    def __repr__(self) -> str:
        above = getattr(self, "protocol", None)
        return f"<SecureTransport {_PHASES[self._phase]} under {above!r}>"
