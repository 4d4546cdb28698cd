"""A real `Socket` between transports that are not there: they block, drain and break on command.

Time stands still until `Stage.passes`. Frames are made and read by `rtgateway.testing.frames`,
which shares no code with the scanner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.testing.frames import CLOSE, PING, PONG, TEXT, Frame, encode, parse
from rtgateway.ws import end, relay, socket, sockets, watched
from rtgateway.ws.rules import Rules
from rtgateway.ws.socket import Socket
from rtgateway.ws.sockets import Place, Sockets

__all__ = ["OURS", "TICK", "Attempt", "FakeTransport", "Instance", "Peer", "Stage"]

OURS = b"rtgw"
"""What pings of the gateway begin with."""
TICK = 0.1
MASK = b"\x11\x22\x33\x44"


class FakeTransport:
    """What `relay.Side` may count on of Twisted's transports, over TCP or over TLS.

    :ivar blocked: the peer takes nothing.
    :ivar taken: what the peer has taken; ``buffer``: what waits for that in the process.
    :ivar kernel: bytes that the kernel has taken, and the peer has not.
    :ivar looks: how often somebody has asked for the bytes that the kernel has.
    :ivar paused: it is not read from.
    :ivar once: its producer is not paused again while it is paused, as by Twisted's own TLS.
    :ivar most: bytes that are read at a time, 0 if nobody has said.
    :ivar problems: what a caller must not do, but did.
    """

    def __init__(self, problems: list[str], *, tls: bool, once: bool) -> None:
        self.problems = problems
        self.tls = tls
        self.once = once
        self.protocol: Any = None
        self.bufferSize = 65536
        self.producer: Any = None
        self.producer_paused = self.blocked = self.paused = False
        self.connected, self.disconnecting = True, False
        self.taken, self.buffer = bytearray(), bytearray()
        self.kernel = self.looks = 0
        self.ending: Exception | None = None
        self.most = 0

    # -- for the gateway ----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not self.connected:
            self.problems.append("written to what is lost")
            return
        if self.disconnecting:
            self.problems.append("written to what is ended")
        if self.ending is not None:
            return
        size = 40 if self.tls else len(data)
        for at in range(0, len(data), size or 1):
            self._write(data[at : at + size])

    def _write(self, data: bytes) -> None:
        if not self.blocked and not self.buffer:
            self.taken += data
            return
        self.buffer += data
        if self.producer is not None and len(self.buffer) > self.bufferSize:
            again, self.producer_paused = self.producer_paused, True
            if not (again and self.once):
                self.producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        if self.producer is not None:
            raise RuntimeError("there is one")
        if self.connected:
            self.producer = producer
        else:
            producer.stopProducing()

    def read_at_most(self, size: int) -> None:
        self.most = size

    def unregisterProducer(self) -> None:
        self.producer = None
        self._close_if_done()

    def pauseProducing(self) -> None:
        if not self.connected:
            self.problems.append("paused when it is lost")
        self.paused = True

    def resumeProducing(self) -> None:
        if not self.connected:
            self.problems.append("resumed when it is lost")
        if not self.disconnecting:
            self.paused = False

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._close_if_done()

    def abortConnection(self) -> None:
        self.disconnecting = True
        if self.ending is None:
            self.ending = ConnectionLost()

    @property
    def unsent(self) -> int:
        return len(self.buffer)

    @property
    def undelivered(self) -> int:
        self.looks += 1
        return self.kernel + len(self.buffer)

    # -- for a test ---------------------------------------------------------------------------

    def takes(self, most: int | None = None) -> None:
        """The peer takes some of what waits; all of it, and whatever comes, if not limited."""
        if not self.connected or self.ending is not None:
            return
        if most is None:
            self.blocked = False
            most = len(self.buffer)
        self.taken += self.buffer[:most]
        del self.buffer[:most]
        if not self.buffer and self.producer is not None and self.producer_paused:
            self.producer_paused = False
            self.producer.resumeProducing()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.disconnecting and not self.buffer and self.producer is None:
            self.ends(ConnectionDone())

    def ends(self, why: Exception) -> None:
        """The connection is over; its protocol hears of it in the next `Stage.turn`."""
        if self.ending is None and self.connected:
            self.ending = why

    @property
    def readable(self) -> bool:
        """Under TLS a connection may be read from when it has been ended."""
        ended = self.disconnecting and not self.tls
        return self.connected and self.ending is None and not (self.paused or ended)

    def reads(self, data: bytes) -> None:
        """Bytes come. Under TLS a read has several parts, which come however little is wanted."""
        size = 30 if self.tls else len(data)
        for at in range(0, len(data), size or 1):
            if self.connected and self.ending is None and (self.tls or not self.disconnecting):
                self.protocol.dataReceived(data[at : at + size])

    def is_lost(self) -> None:
        assert self.ending is not None
        self.connected = False
        if self.producer is not None:
            self.producer.stopProducing()
            self.producer = None
        protocol, self.protocol = self.protocol, None
        protocol.connectionLost(Failure(self.ending))
        self.ending = None

    def __repr__(self) -> str:
        return f"<FakeTransport {len(self.taken)} taken {len(self.buffer)} waiting>"


class Peer:
    """The client or the instance.

    :ivar said: all bytes of it that have reached the gateway.
    """

    def __init__(self, stage: Stage, side: Any, *, masks: bool, tls: bool) -> None:
        self.stage = stage
        self.side = side
        self.masks = masks
        self.said = bytearray()
        self.transport = FakeTransport(stage.problems, tls=tls, once=tls and not masks)
        self.transport.protocol = side
        side.transport = self.transport

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
        return encode(opcode, payload, fin=fin, rsv=rsv, mask=MASK if self.masks else b"")

    def says(self, data: bytes) -> None:
        """``data`` reaches the gateway."""
        assert self.transport.readable
        self.said += data
        self.transport.reads(data)
        self.stage.turn()

    def text(self, words: str = "hello") -> None:
        self.says(self.frame(TEXT, words.encode()))

    def closes(self, code: int = 1000, reason: str = "") -> None:
        self.says(self.frame(CLOSE, code.to_bytes(2, "big") + reason.encode()))

    def pongs(self, ping: Frame | None = None) -> None:
        """Answer a ping of the gateway, the last one if not told otherwise."""
        self.says(self.frame(PONG, (ping or self.pings[-1]).payload))

    def blocks(self) -> None:
        self.transport.blocked = True

    def takes(self, most: int | None = None) -> None:
        self.transport.takes(most)
        self.stage.turn()

    def leaves(self, *, clean: bool = True) -> None:
        """Its connection is over."""
        self.transport.ends(ConnectionDone() if clean else ConnectionLost())
        self.stage.turn()

    @property
    def written(self) -> bytearray:
        """All that the gateway has written to it."""
        return self.transport.taken + self.transport.buffer

    @property
    def frames(self) -> list[Frame]:
        """The whole frames among what it has taken."""
        return frames_in(self.transport.taken)[0]

    @property
    def pings(self) -> list[Frame]:
        """Those of the gateway."""
        return [each for each in self.frames if each.opcode == PING and each.payload[:4] == OURS]

    @property
    def close(self) -> tuple[int, str] | None:
        """The Close frame it has taken."""
        frames, rest = frames_in(self.transport.taken)
        found = [each.close for each in frames if each.opcode == CLOSE]
        if not found:
            return None
        assert (len(found), frames[-1].opcode, rest) == (1, CLOSE, b""), "nothing follows a Close"
        return found[0]

    @property
    def texts(self) -> list[str]:
        return [each.payload.decode() for each in self.frames if each.opcode == TEXT]


def frames_in(data: bytearray) -> tuple[list[Frame], bytes]:
    """The whole frames of a stream, and what is behind the last of them."""
    found, at = [], 0
    while (frame := parse(data, at)) is not None:
        found.append(frame)
        at += len(frame.raw)
    return found, bytes(data[at:])


class Attempt:
    """Counts how often it is over."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.ended = 0

    def over(self, now: float) -> None:
        self.ended += 1


class Instance:
    """What a socket and the drain have to know of one."""

    service = "main"

    def __init__(self, name: str = "a") -> None:
        self.label = self.id = name
        self.draining = False


class Log:
    def __init__(self) -> None:
        self.sockets: list[tuple[int, str, str]] = []

    def socket(self, socket: Socket) -> None:
        repr(socket)
        self.sockets.append((socket.close_code, socket.close_reason, socket.closed_by))


class Stage:
    """All sockets of a gateway, its clock, and one socket in the middle (see `open`).

    :param settings: keys of ``websocket``.
    """

    def __init__(
        self,
        *,
        write_stall: float = 60.0,
        tls: str = "",
        buffer: int = 65536,
        random: float = 0.5,
        **settings: Any,
    ) -> None:
        self.now = 1000.0
        self.settings = config.WebSocket(**settings)
        self.rules = Rules(self.settings, write_stall)
        self.wheel = Wheel(TICK, 1.0)
        self.instances = [Instance()]
        self.log = Log()
        self.random = random
        self.sockets = Sockets(
            self.wheel, lambda: self.random, lambda: cast("Any", self.instances), self.log
        )
        self.problems: list[str] = []
        self.peers: list[Peer] = []
        self.tls = tls
        self.buffer = buffer
        self._second = 0.0

    def monotonic(self) -> float:
        return self.now

    @contextmanager
    def on(self) -> Iterator[Stage]:
        """While this is entered, its clock is everybody's."""
        with ExitStack() as patches:
            for module in (end, relay, socket, sockets, watched):
                patches.enter_context(patch.object(module, "monotonic", self.monotonic))
            yield self
        assert self.problems == []

    def open(
        self,
        *,
        expires: float = float("inf"),
        from_client: bytes = b"",
        from_instance: bytes = b"",
        at: Instance | None = None,
    ) -> tuple[Socket, Peer, Peer]:
        """A socket, its client and its instance."""
        route = cast("Any", SimpleNamespace(label="/ws/:service"))
        opened = Socket(self.sockets, self.rules, route, compressed=False, subprotocol="")
        client = Peer(self, opened.client, masks=True, tls="client" in self.tls)
        upstream = Peer(self, opened.upstream, masks=False, tls="upstream" in self.tls)
        client.transport.bufferSize = upstream.transport.bufferSize = self.buffer
        client.said += from_client
        upstream.said += from_instance
        self.peers += client, upstream
        opened.attempt = cast("Any", Attempt(at or self.instances[0]))
        opened.path, opened.request_id, opened.client_ip = b"/chat", b"r-1", "192.0.2.1"
        place = Place(opened.route, (opened.route, "192.0.2.1"), (opened.route, "alice"))
        self.sockets.take(place)
        opened.place = place
        opened.start(self.now, expires, from_client, from_instance)
        self.turn()
        return opened, client, upstream

    def turn(self) -> None:
        """The reactor goes round: connections that have ended are known to be lost."""
        while ending := [each for each in self.peers if each.transport.ending is not None]:
            for peer in ending:
                peer.transport.is_lost()

    def passes(self, seconds: float) -> None:
        """Time passes, with all that happens in it."""
        end = self.now + seconds - TICK / 2
        while self.now < end:
            self.now = round(self.now + TICK, 6)
            for item in self.wheel.advance(self.now):
                if item.deadline <= self.now:
                    item.expired(self.now)
            if self.now >= self._second + 1.0:
                self._second = self.now
                self.sockets.tick(self.now)
            self.turn()
