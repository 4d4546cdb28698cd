"""A client that sends exactly the bytes it is told to, and keeps what comes back."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rtgateway.testing.waiting import eventually, the_reactor, within

__all__ = ["RawAnswer", "RawClient"]


class RawAnswer:
    """An answer cut out of a byte stream.

    :ivar headers: ``(lower-cased name, value)`` in order.
    :ivar raw: all its bytes; ``body`` is without framing.
    """

    def __init__(self, raw: bytes, head: bytes, body: bytes) -> None:
        self.raw = raw
        self.head = head
        self.body = body
        first, *lines = head.split(b"\r\n")
        self.status = int(first.split(b" ", 2)[1])
        self.headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        ]

    def header(self, name: bytes) -> bytes | None:
        """The value of a field, the first if there are several."""
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for key, value in self.headers if key == name]

    def __repr__(self) -> str:
        return f"<RawAnswer {self.status} {len(self.body)} bytes>"


class RawClient(Protocol):
    """See the module.

    :ivar received: every byte that came, and has not been taken by `answer`.
    :ivar lost: why the connection ended, or None while it stands.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    @classmethod
    async def connect(cls, port: int) -> RawClient:
        """A client connected to this port of 127.0.0.1."""
        endpoint = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", port)
        connecting: Deferred[RawClient] = connectProtocol(endpoint, cls())
        return await within(connecting)

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def send(self, data: bytes) -> None:
        """Write ``data`` as it is."""
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    async def answer(self, *, to: bytes = b"GET") -> RawAnswer:
        """The next complete answer; it is taken out of ``received``.

        :param to: the method it answers (HEAD has no body).
        """
        return await eventually(lambda: self.take(to))

    def take(self, method: bytes = b"GET") -> RawAnswer | None:
        """The next answer if it is complete; it is taken out of ``received``."""
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, rest = self.received[:end], self.received[end + 4 :]
        answer = RawAnswer(b"", head, b"")
        length = answer.header(b"content-length")
        coding = answer.header(b"transfer-encoding")
        if answer.status < 200 or answer.status in (204, 304) or method == b"HEAD":
            body, used = b"", 0
        elif coding is not None:
            dechunked = _dechunk(rest)
            if dechunked is None:
                return None
            body, used = dechunked
        elif length is not None:
            used = int(length)
            if len(rest) < used:
                return None
            body = rest[:used]
        elif self.lost is not None and self.lost.check(ConnectionDone):
            body, used = rest, len(rest)
        else:
            return None
        raw = self.received[: end + 4 + used]
        self.received = rest[used:]
        return RawAnswer(raw, head, body)

    async def closed(self) -> bytes:
        """Wait for the end of the connection; what was received and not taken."""
        await eventually(lambda: self.lost is not None)
        return self.received

    def close(self) -> None:
        """End the connection."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def pause(self) -> None:
        """Read nothing more; the gateway's writes pile up."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    def __repr__(self) -> str:
        state = "lost" if self.lost else "open"
        return f"<RawClient {state} {self.received[:200]!r}>"


def _dechunk(data: bytes) -> tuple[bytes, int] | None:
    """Payload and size of a complete chunked body at the start of ``data``."""
    payload = b""
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        size = int(data[at:end], 16)
        if size == 0:
            break
        payload += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
        if at > len(data):
            return None
    while True:
        line = data.find(b"\r\n", end + 2)
        if line < 0:
            return None
        if line == end + 2:
            return payload, line + 2
        end = line
