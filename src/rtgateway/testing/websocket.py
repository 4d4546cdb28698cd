"""Raw WebSockets for tests: a client and an instance that keep every byte and every frame.

Neither does anything by itself: no pong, no close, no echo, unless the test gives it a ``talk``
such as `echo`. What is sent need not be legal::

    upstream = await WebSocketUpstream.listening(talk=echo)
    client = await WebSocketClient.open(gateway.port, "/ws/chat?path=/room")
    client.text("hello")
    assert (await client.frame()).payload == b"hello"
    client.closing(1000, "done")
    assert await client.close_frame() == (1000, "done")
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol

from rtgateway.testing.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    accept_for,
    agree,
    encode,
    parse,
)
from rtgateway.testing.rawclient import RawAnswer, RawClient
from rtgateway.testing.upstream import RecordedConnection, RecordingUpstream
from rtgateway.testing.waiting import eventually, soon, the_reactor, within

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "Talk",
    "WebSocketClient",
    "WebSocketConnection",
    "WebSocketEnd",
    "WebSocketUpstream",
    "agree",
    "echo",
    "encode",
]

Answer = bytes | Sequence[bytes] | None
Answering = Callable[[Any, bytes], Answer]
Talk = Callable[["WebSocketEnd", "Frame"], object]


def echo(end: WebSocketEnd, frame: Frame) -> None:
    """A ``talk``: data comes back frame by frame, a ping as a pong, a Close ends it."""
    if frame.opcode == PING:
        end.send_frame(PONG, frame.payload)
    elif frame.opcode == CLOSE:
        end.send_frame(CLOSE, frame.payload)
        end.transport.loseConnection()
    elif frame.opcode != PONG:
        end.send_frame(frame.opcode, frame.payload, fin=frame.fin, rsv=frame.rsv)


class WebSocketEnd(Protocol):
    """What a client and an instance have in common, once the handshake is done.

    :ivar wire: every byte that came behind the handshake.
    :ivar frames: the complete frames in it, in order.
    :ivar lost: why the connection ended, or None while it stands.
    :ivar talk: called with each frame as it comes, if it is there.
    """

    masks: ClassVar[bool]
    transport: Any
    lost: Any
    talk: Talk | None
    upgraded: bool

    def _begin(self, talk: Talk | None) -> None:
        self.wire = bytearray()
        self.frames: list[Frame] = []
        self.upgraded = False
        self.talk = talk
        self._parsed = 0
        self._taken = 0

    # -- sending ------------------------------------------------------------------------------

    def send_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0
    ) -> bytes:
        """Send a frame, masked if this is a client; the bytes that were sent."""
        mask = os.urandom(4) if self.masks else b""
        raw = encode(opcode, payload, fin=fin, rsv=rsv, mask=mask)
        self.transport.write(raw)
        return raw

    def text(self, words: str) -> bytes:
        """Send a whole text message."""
        return self.send_frame(TEXT, words.encode())

    def binary(self, payload: bytes) -> bytes:
        """Send a whole binary message."""
        return self.send_frame(BINARY, payload)

    def ping(self, payload: bytes = b"") -> bytes:
        """Send a ping."""
        return self.send_frame(PING, payload)

    def closing(self, code: int | None = None, reason: str = "") -> bytes:
        """Send a Close frame; the connection stays."""
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        return self.send_frame(CLOSE, payload)

    async def drip(self, data: bytes, size: int = 1) -> None:
        """Send bytes a few at a time, each in a turn of the reactor of its own."""
        for at in range(0, len(data), size):
            self.transport.write(data[at : at + size])
            await soon()

    # -- receiving ----------------------------------------------------------------------------

    async def frame(self) -> Frame:
        """The next frame that this did not return before."""
        number = self._taken
        found = await eventually(lambda: self.frames[number : number + 1] or self._unless_lost())
        self._taken = number + 1
        return found[0]

    async def message(self) -> tuple[int, bytes]:
        """Opcode and payload of the next message; control frames are left out."""
        opcode, payload = -1, b""
        while True:
            frame = await self.frame()
            if frame.opcode >= CLOSE:
                continue
            opcode, payload = (frame.opcode if opcode < 0 else opcode), payload + frame.payload
            if frame.fin:
                return opcode, payload

    async def close_frame(self) -> tuple[int, str]:
        """Code and reason of the first Close frame, waiting for it."""
        found = await eventually(
            lambda: [each for each in self.frames if each.opcode == CLOSE] or self._unless_lost()
        )
        return found[0].close

    def _unless_lost(self) -> list[Frame]:
        if self.lost:
            raise AssertionError(f"the connection is lost ({self.lost.value}): {self!r}")
        return []

    def _arrived(self, data: bytes) -> None:
        self.wire += data
        while (frame := parse(self.wire, self._parsed)) is not None:
            self._parsed += len(frame.raw)
            self.frames.append(frame)
            if self.talk is not None:
                self.talk(self, frame)

    # -- the connection -----------------------------------------------------------------------

    def half_close(self) -> None:
        """Send nothing more (a FIN without a Close frame), but go on reading."""
        self.transport.loseWriteConnection()

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
        state = "lost" if self.lost else "open" if self.upgraded else "not yet open"
        shown = [(frame.opcode, frame.payload[:40]) for frame in self.frames[-8:]]
        rest = bytes(self.wire[self._parsed :][:40])
        return f"<{type(self).__name__} {state} {len(self.frames)} frames {shown} {rest!r}>"


class WebSocketClient(WebSocketEnd, RawClient):
    """A client; use `open`, or `connect` and `upgrade` to see what a refused handshake gets.

    :ivar handshake: the 101, once it has come.
    """

    masks = True
    KEY: ClassVar[str] = b64encode(bytes(range(16))).decode()

    def __init__(self, talk: Talk | None = None) -> None:
        super().__init__()
        self.handshake: RawAnswer | None = None
        self._begin(talk)

    @classmethod
    async def connect(
        cls, port: int, endpoint: IStreamClientEndpoint | None = None
    ) -> WebSocketClient:
        """A client connected to this port of 127.0.0.1, or to an endpoint."""
        endpoint = endpoint or TCP4ClientEndpoint(the_reactor(), "127.0.0.1", port)
        connecting: Deferred[WebSocketClient] = connectProtocol(endpoint, cls())
        return await within(connecting)

    @classmethod
    async def open(cls, port: int, target: str, *lines: str) -> WebSocketClient:
        """A client whose handshake is done.

        :raises AssertionError: it was refused.
        """
        client = await cls.connect(port)
        client.upgrade(target, *lines)
        await client.opened()
        return client

    def upgrade(self, target: str, *lines: str, behind: bytes = b"") -> None:
        """Ask for a WebSocket, with more header lines; ``behind`` goes out in the same write."""
        fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = f"Sec-WebSocket-Key: {self.KEY}"
        head = (f"GET {target} HTTP/1.1", "Host: test", *fields, key, *lines, "", "")
        self.send("\r\n".join(head).encode() + behind)

    async def opened(self) -> RawAnswer:
        """The 101, waiting for it.

        :raises AssertionError: something else came, or it does not fit the key.
        """
        answer = await eventually(lambda: self.handshake or self.take())
        assert answer.status == 101, f"{answer!r} {answer.body!r}"
        assert answer.header(b"sec-websocket-accept") == accept_for(self.KEY.encode()).encode()
        return answer

    def dataReceived(self, data: bytes) -> None:
        if self.upgraded:
            self._arrived(data)
            return
        super().dataReceived(data)
        if self.received.startswith(b"HTTP/1.1 101 ") and b"\r\n\r\n" in self.received:
            self.handshake = self.take()
            self.upgraded = True
            rest, self.received = self.received, b""
            self._arrived(rest)


class WebSocketConnection(WebSocketEnd, RecordedConnection):
    """One connection to a `WebSocketUpstream`; a WebSocket as soon as it has sent a 101.

    ``received`` and ``requests`` hold the handshake, `wire` and `frames` what comes behind it.
    """

    masks = False

    def __init__(self, upstream: WebSocketUpstream, talk: Talk | None) -> None:
        super().__init__(upstream)
        self._begin(talk)

    def dataReceived(self, data: bytes) -> None:
        if self.upgraded:
            self._arrived(data)
        else:
            super().dataReceived(data)

    def send(self, answer: bytes | Sequence[bytes]) -> None:
        parts = [answer] if isinstance(answer, bytes) else list(answer)
        super().send(parts)
        if not self.upgraded and b"".join(parts).startswith(b"HTTP/1.1 101 "):
            self.upgraded = True
            rest, self._unread = bytes(self._unread), bytearray()
            self._arrived(rest)


class WebSocketUpstream(RecordingUpstream):
    """An instance that agrees to every WebSocket, or answers handshakes as it is told."""

    def __init__(self, answer: Answer | Answering = None, talk: Talk | None = None) -> None:
        super().__init__(answer if answer is not None else lambda _, request: agree(request))
        self.talk = talk

    @classmethod
    async def listening(
        cls, answer: Answer | Answering = None, port: int = 0, talk: Talk | None = None
    ) -> WebSocketUpstream:
        """A new one that listens.

        :param answer: instead of `agree`: bytes, or a function of connection and request.
        :param talk: called with each frame that comes, for instance `echo`.
        """
        upstream = cls(answer, talk)
        upstream._listening = the_reactor().listenTCP(port, upstream, interface="127.0.0.1")
        return upstream

    def buildProtocol(self, addr: object) -> Protocol:
        return WebSocketConnection(self, self.talk)

    @property
    def sockets(self) -> list[WebSocketConnection]:
        """The connections that are, or were, WebSockets."""
        return [
            each
            for each in self.connections
            if isinstance(each, WebSocketConnection) and each.upgraded
        ]

    async def socket(self, number: int = 0) -> WebSocketConnection:
        """The WebSocket of this number, waiting for it."""
        await eventually(lambda: len(self.sockets) > number)
        return self.sockets[number]
