"""An instance for tests that keeps every byte it gets and answers with bytes it was given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from rtgateway.testing.waiting import eventually, the_reactor

__all__ = ["OK", "RecordedConnection", "RecordingUpstream"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = bytes | Sequence[bytes] | None
Answering = Callable[["RecordedConnection", bytes], Answer]

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class RecordedConnection(Protocol):
    """One connection to a `RecordingUpstream`.

    :ivar requests: what it `received`, cut into complete requests (head and body as sent).
    :ivar lost: why it ended, or None while it stands.
    """

    transport: Any

    def __init__(self, upstream: RecordingUpstream) -> None:
        self.upstream = upstream
        self.requests: list[bytes] = []
        self.lost: Failure | None = None
        self._received = bytearray()
        self._unread = bytearray()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.upstream.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        self._unread += data
        while (size := _request_size(self._unread)) is not None:
            request = bytes(self._unread[:size])
            del self._unread[:size]
            self.requests.append(request)
            self.upstream.requests.append(request)
            answer = self.upstream.answering(self, request)
            if answer is not None:
                self.send(answer)

    @property
    def received(self) -> bytes:
        """Every byte, in order."""
        return bytes(self._received)

    @received.setter
    def received(self, value: bytes) -> None:
        self._received = bytearray(value)

    def send(self, answer: bytes | Sequence[bytes]) -> None:
        """Send bytes as they are; a sequence in writes of their own."""
        for part in [answer] if isinstance(answer, bytes) else answer:
            self.transport.write(part)

    def close(self) -> None:
        """End the connection after what has been sent."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Reset the connection."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def __repr__(self) -> str:
        state = "lost" if self.lost else "open"
        return f"<RecordedConnection {state} {len(self.requests)} requests>"


class RecordingUpstream(Factory):
    """Listens on a free port of 127.0.0.1.

    :ivar answering: called with a connection and each complete request; what it returns is sent.
        None sends nothing: the test goes on by hand with `RecordedConnection.send`.
    :ivar requests: complete requests of all connections, in order.
    """

    noisy = False

    def __init__(self, answer: Answer | Answering = OK) -> None:
        self.connections: list[RecordedConnection] = []
        self.requests: list[bytes] = []
        self.answering: Answering
        if callable(answer):
            self.answering = answer
        else:
            self.answering = lambda connection, request: answer
        self._listening: IListeningPort | None = None

    @classmethod
    async def listening(cls, answer: Answer | Answering = OK, port: int = 0) -> RecordingUpstream:
        """A new one that listens."""
        upstream = cls(answer)
        upstream._listening = the_reactor().listenTCP(port, upstream, interface="127.0.0.1")
        return upstream

    def buildProtocol(self, addr: object) -> Protocol:
        return RecordedConnection(self)

    @property
    def port(self) -> int:
        assert self._listening is not None
        return self._listening.getHost().port  # type: ignore[attr-defined, no-any-return]

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def received(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(connection.received for connection in self.connections)

    async def request(self, number: int = 0) -> bytes:
        """The complete request of this number, waiting for it."""
        await eventually(lambda: len(self.requests) > number)
        return self.requests[number]

    async def connection(self, number: int = 0) -> RecordedConnection:
        """The connection of this number, waiting for it."""
        await eventually(lambda: len(self.connections) > number)
        return self.connections[number]

    def stop(self) -> Deferred[Any]:
        """Stop listening and reset every connection."""
        for connection in self.connections:
            if connection.lost is None:
                connection.abort()
        listening, self._listening = self._listening, None
        stopped: Any = listening.stopListening() if listening is not None else None
        if isinstance(stopped, Deferred):
            return stopped
        done: Deferred[Any] = Deferred()
        done.callback(None)
        return done

    def __repr__(self) -> str:
        return f"<RecordingUpstream {len(self.requests)} requests>"


def _request_size(data: bytes | bytearray) -> int | None:
    """How many bytes of ``data`` are its first request; None if that is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 2]
    if _CHUNKED.search(head):
        return _end_of_chunks(data, end + 4)
    length = _LENGTH.search(head)
    size = end + 4 + (int(length[1]) if length else 0)
    return size if len(data) >= size else None


def _end_of_chunks(data: bytes | bytearray, at: int) -> int | None:
    """The index behind the chunked body that starts at ``at``; None if it is not complete."""
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line].partition(b";")[0], 16)
        if size == 0:
            # The trailer section begins where the line of the last chunk ends.
            last = data.find(b"\r\n\r\n", line)
            return last + 4 if last >= 0 else None
        at = line + 2 + size + 2
    return None
