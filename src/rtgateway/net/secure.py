"""TLS for accepted connections: a protocol to the TCP transport, a transport to the protocol.

`net.records` does the cryptography. To the protocol above, everything that has to do with time
and backpressure is the TCP transport's own behaviour, and ``tests/net`` holds it to the same
expectations. `net.listen` puts one between each connection and its protocol.

What ends a connection: a close_notify, after which the protocol hears `ConnectionDone`; an end
without one, which may be somebody's attack (RFC 8446, 6.1) and is `ConnectionLost`, as whatever
OpenSSL refuses is. Our own `SecureTransport.loseConnection` sends a close_notify and waits for the
peer's end, within bounds.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from twisted.internet import interfaces
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.net.hello import read_hello
from rtgateway.net.layer import Layer, StallTimer
from rtgateway.net.records import FEED, RECORD, Records
from rtgateway.net.tls import ALPN, ServerCertificates

__all__ = ["SecureTransport"]

_UNTAKEN = 64 * 1024
"""Bytes of TLS's own answers that a peer may provoke without taking them."""
_PATIENCE = 5.0
"""Seconds without progress that a peer may take to end a connection that we have ended."""
_NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"
"""The alert (RFC 7301, 3.2) as a record."""

_HELLO, _HANDSHAKE, _OPEN, _CLOSING, _OVER = range(5)
"""Phases, in this order: waiting for a ClientHello; shaking hands; open; close_notify sent, the
peer's end awaited; nothing goes in or out any more."""
_PHASES = ("waiting for a hello", "handshake", "open", "closing", "over")


@implementer(interfaces.IProtocol, interfaces.ISSLTransport, interfaces.IPushProducer)
@implementer(interfaces.IConsumer, interfaces.INegotiated)
class SecureTransport(Layer):
    """The server's side of one connection; see the module.

    :ivar server_name: what the client asked for (SNI), in lower case; empty if nothing.
    """

    __slots__ = (
        "_certificates",
        "_clock",
        "_flight",
        "_held",
        "_phase",
        "_producer",
        "_provoked",
        "_records",
        "_stall",
        "_streaming",
        "_trouble",
        "disconnecting",
        "protocol",
        "server_name",
    )

    _records: Records  # from the ClientHello on

    def __init__(
        self,
        protocol: interfaces.IProtocol,
        certificates: ServerCertificates,
        clock: interfaces.IReactorTime,
    ) -> None:
        self.protocol = protocol
        self.disconnecting = False
        self.server_name = ""
        self._certificates = certificates
        self._clock = clock
        self._phase = _HELLO
        self._flight = b""
        self._held: list[bytes] | None = None
        self._producer: interfaces.IProducer | None = None
        self._streaming = False
        self._provoked = 0
        self._trouble: ssl.SSLError | None = None
        self._stall: StallTimer | None = None

    # -- protocol of the TCP transport --------------------------------------------------------

    def makeConnection(self, transport: interfaces.ITransport) -> None:
        """The protocol is connected at once: its deadlines include the handshake."""
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self.protocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if len(data) > FEED:
            for start in range(0, len(data), FEED):
                self.dataReceived(data[start : start + FEED])
        elif self._phase == _OPEN or self._phase == _CLOSING:
            self._deliver(data)
        elif self._phase == _HELLO:
            self._hear(data)
        elif self._phase == _HANDSHAKE:
            self._shake_hands(data)

    def connectionLost(self, reason: Failure) -> None:
        cut = self._phase <= _OPEN and not self.disconnecting
        if self._trouble is not None:
            reason = Failure(ConnectionLost(f"TLS: {self._trouble.reason or self._trouble}"))
        elif cut and reason.check(ConnectionDone):
            reason = Failure(ConnectionLost("The peer ended without a close_notify"))
        self._phase = _OVER
        self.disconnecting = True
        self._held = self._producer = None
        if self._stall is not None:
            self._stall.stop()
            self._stall = None
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
        self.server_name = hello.server_name
        context = self._certificates.context_for(hello.server_name)
        self._records = Records(context, self._flight)
        self._flight = b""
        self._phase = _HANDSHAKE
        self._shake_hands()

    def _shake_hands(self, data: bytes = b"") -> None:
        try:
            done = self._records.shake_hands(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._answer()
        if done:
            self._phase = _OPEN
            self._release()
            if self._phase != _OVER:
                # What came together with the end of the handshake.
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

    def _deliver(self, data: bytes = b"") -> None:
        """Give the protocol what can be decrypted; after its own end, only look for the peer's."""
        records = self._records
        plain = records.decrypt(data)
        if plain and self._phase == _OPEN:
            self.protocol.dataReceived(plain)
        if self._phase == _OVER:
            return
        if records.trouble is not None:
            self._fail(records.trouble)
        elif records.ended:
            if self._phase == _OPEN:
                records.say_goodbye()
            self._end()
        else:
            self._answer()

    def _answer(self) -> None:
        answer = self._records.answer()
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
            if len(data) > RECORD:
                for piece in self._records.encrypt_many(data):
                    self.transport.write(piece)
            elif data:
                self.transport.write(self._records.encrypt(data))
        except ssl.SSLError as error:
            self._fail(error)

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

    # There is no half-closed TLS: what comes after the end is read, but not delivered.
    loseWriteConnection = stopProducing = loseConnection

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
        both = self._records.say_goodbye()
        self.transport.write(self._records.answer())
        if both:
            self._end()
        else:
            self._watch()

    def _fail(self, trouble: ssl.SSLError) -> None:
        self._trouble = trouble
        self._end()

    def _end(self) -> None:
        """Close when everything is sent, and with it what TLS has to say about the end."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # The TCP transport would wait for it.
            self.transport.unregisterProducer()
        if _HELLO < self._phase < _OVER:
            self.transport.write(self._records.answer())
        self._phase = _OVER
        self.disconnecting = True
        self._held = None
        if producer is not None:
            producer.stopProducing()
        self.transport.loseConnection()
        self._watch()

    def _watch(self) -> None:
        """Bound the time that the end takes, from when the peer stops taking what it gets."""
        if self._stall is None:
            self._stall = StallTimer(self._clock, self, _PATIENCE, self._stalled)

    def _stalled(self) -> None:
        self._stall = None
        if self._phase == _CLOSING and not self.undelivered:
            # It has everything and only does not say so: no reason for a reset.
            self._end()
        elif self._phase != _OPEN:
            self.abortConnection()
        # Else the handshake went on, and now a producer is being waited for.

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

    # -- what it is ---------------------------------------------------------------------------

    @property
    def established(self) -> bool:
        """Whether the handshake is done and nothing has ended yet."""
        return self._phase == _OPEN

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """What was agreed on (ALPN); None before the handshake, or when the client offered none."""
        return self._records.protocol if self.established else None

    def getPeerCertificate(self) -> None:
        """Clients are not asked for one."""

    def __repr__(self) -> str:
        above = getattr(self, "protocol", None)
        return f"<SecureTransport {_PHASES[self._phase]} under {above!r}>"
