"""One end of a bridged WebSocket: frames in from its transport, out to the other end's.

`Side.dataReceived` is the hot path: a frame is scanned (`wire.websocket`) and written on as it
came. Whatever else may have to be done with it (a rate, a frame of our own to slip in, a Close) is
in ``_with_care``, where a side goes while it is not ``easy``. When something has to be done about
the socket as a whole, its `Socket` is told.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet import interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from rtgateway.wire.websocket import (
    CLOSE,
    PONG,
    FrameError,
    FrameRules,
    FrameScanner,
    close_frame,
    parse_close,
    ping_frame,
)

if TYPE_CHECKING:
    from rtgateway.ws.rules import Meter
    from rtgateway.ws.socket import Socket

__all__ = ["Side"]

_OTHER_IS_FULL, _TOO_FAST = 1, 2
"""Why nothing is read from a side."""
_OURS = b"rtgw"
_PING = Struct(">4sd")
"""Pings of the gateway are told from those that pass through by their payload: when they were sent,
in seconds of the monotonic clock."""
_BUFFER = 65536
"""Bytes that a transport buffers before it pauses its producer (Twisted's own figure)."""


@implementer(interfaces.IPushProducer)
class Side:
    """See the module. It is the protocol of its transport, and the producer of the other's.

    :ivar name: ``client`` or ``upstream``.
    :ivar masks: frames sent to it are masked: the gateway is its client (RFC 6455, 5.3).
    :ivar bytes: that have come from it.
    :ivar easy: what comes from it is passed on without a second look.
    :ivar blocked: it takes no more at present.
    :ivar said_close: it has got a Close frame, or will at the next boundary.
    :ivar waiting: frames of our own that it gets at the next frame boundary.
    :ivar lost: its connection is gone.
    :ivar ping_sent: when it got a ping that it has not answered; 0.0 if there is none.
    """

    __slots__ = (
        "_feed",
        "_holds",
        "_left",
        "_mark",
        "_write",
        "blocked",
        "bytes",
        "easy",
        "ended",
        "lost",
        "masks",
        "meter",
        "other",
        "ping_sent",
        "said_close",
        "scanner",
        "socket",
        "transport",
        "waiting",
    )

    other: Side
    transport: Any  # several interfaces at once: TCP transport, consumer, producer
    _write: Callable[[bytes], object]

    def __init__(
        self, socket: Socket, rules: FrameRules, *, masks: bool, meter: Meter | None = None
    ) -> None:
        self.socket = socket
        self.scanner = FrameScanner(rules, self._control)
        self._feed = self.scanner.feed
        self.masks = masks
        self.meter = meter
        self.bytes = 0
        self.easy = meter is None
        self.blocked = self.said_close = self.lost = self.ended = False
        self.waiting = b""
        self.ping_sent = 0.0
        self._mark = self._left = 0
        self._holds = 0

    @property
    def name(self) -> str:
        return "upstream" if self.masks else "client"

    @property
    def messages(self) -> int:
        """Messages that have come from it, the one that is still coming included."""
        return self.scanner.messages

    @property
    def frames(self) -> int:
        """Frames that have come from it, control frames included."""
        return self.scanner.frames

    # -- bytes in -----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self.bytes += len(data)
        try:
            out = self._feed(data)
        except FrameError as error:
            self._feed = _ignore
            self._with_care(error.passed, len(data))
            self.socket.close(error.code, error.reason)
            return
        if not self.easy:
            self._with_care(out, len(data))
        elif out:
            self._write(out)

    def _with_care(self, out: bytes, size: int) -> None:
        other, socket = self.other, self.socket
        if self.meter is not None and socket.open and not self._within_rates(self.meter, size):
            return
        if other.waiting:
            out = self._with_waiting(out)
        elif other.said_close:
            out = b""  # RFC 6455, 5.5.1: nothing follows a Close
        if out and not other.lost:
            self._write(out)
        if self.scanner.closed:
            other.said_close = True
            socket.advance()
        elif socket.open:
            if other.blocked and other.unsent > socket.rules.max_buffered:
                socket.close(1013, "backpressure")
            self._relax()

    def _with_waiting(self, out: bytes) -> bytes:
        """``out`` with what waits for the other end behind its last whole frame, if it has one."""
        other, at = self.other, self.scanner.boundary
        if at < 0:
            return out
        frames, other.waiting = other.waiting, b""
        return out[:at] + frames + (b"" if other.said_close else out[at:])

    def _within_rates(self, meter: Meter, size: int) -> bool:
        debt = meter.take(self.scanner.messages, size, monotonic())
        if not debt:
            return True
        if not self.socket.rules.pauses:
            self.socket.close(1008, "rate_limit")
            return False
        self._hold(_TOO_FAST)
        self.socket.resume_after(debt)
        return True

    def _relax(self) -> None:
        other = self.other
        self.easy = self.meter is None and not (other.waiting or other.blocked)

    # -- control frames -----------------------------------------------------------------------

    def _control(self, opcode: int, payload: bytes, frame: bytes) -> bytes:
        """What is passed on in place of a control frame (called by the scanner)."""
        if opcode == CLOSE:
            return self._close_came(payload, frame)
        if opcode == PONG and len(payload) == _PING.size and payload.startswith(_OURS):
            # Not asked for by the other side, even if it comes too late.
            if self.ping_sent and payload == _PING.pack(_OURS, self.ping_sent):
                sent, self.ping_sent = self.ping_sent, 0.0
                self.socket.ponged(self, monotonic() - sent)
            return b""
        return frame

    def _close_came(self, payload: bytes, frame: bytes) -> bytes:
        code, reason = parse_close(payload)
        self.socket.close_came(self, code, reason)
        if self.other.said_close:
            return b""
        if payload:
            return frame
        # Without a code there is nothing to pass on; which side it was is worth knowing.
        return close_frame(1000, f"{self.name}_closed", masked=self.other.masks)

    # -- frames of our own --------------------------------------------------------------------

    def ping(self, now: float) -> None:
        """Send a ping, which `_control` finds the answer to."""
        if self.said_close or self.lost:
            return
        self.ping_sent = now
        self._mark = self.bytes
        self._insert(ping_frame(_PING.pack(_OURS, now), masked=self.masks))
        self._left = self.undelivered

    @property
    def behind(self) -> bool:
        """Whether the last ping may not have reached it yet, or its answer not us.

        Who takes what was sent before is there, and so is who can't be read from; whether it takes
        anything at all is watched elsewhere while it is blocked.
        """
        if self.waiting or self.blocked or self._holds:
            return True
        left, self._left = self._left, self.undelivered
        return 0 < self._left < left

    @property
    def dead(self) -> bool:
        """Whether it gives no sign of life: nothing has come since the last ping."""
        return self.bytes == self._mark and not self.behind

    def say_close(self, code: int, reason: str) -> None:
        """Send a Close frame, at the next frame boundary; nothing happens if it has had one."""
        if self.said_close or self.lost:
            return
        self.said_close = True
        if self.other.lost and not self.other.scanner.between:
            # The rest of a frame that has begun will never come: there is no boundary any more.
            self.end()
        else:
            self._insert(close_frame(code, reason, masked=self.masks))

    def _insert(self, frame: bytes) -> None:
        if self.other.scanner.between and not self.waiting:
            self.transport.write(frame)
        else:
            self.waiting += frame
            self.other.easy = False

    # -- backpressure: producer of the other side's transport -----------------------------------

    def connect(self, max_buffered: int) -> None:
        """Both transports are there: from now on each is slowed down by the other."""
        other = self.other
        self._write = other.transport.write
        if max_buffered < _BUFFER:
            transport = other.transport
            getattr(transport, "transport", transport).bufferSize = max_buffered
        other.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.other.blocked = True
        self.easy = False
        self._hold(_OTHER_IS_FULL)
        self.socket.blocked(self.other)

    def resumeProducing(self) -> None:
        self.other.blocked = False
        self._release(_OTHER_IS_FULL)
        if self.socket.open:
            self._relax()

    def stopProducing(self) -> None:
        """The other side's transport is closing; its connectionLost follows."""

    def slow_enough(self) -> None:
        """Read on what came too fast."""
        self._release(_TOO_FAST)

    def _hold(self, reason: int) -> None:
        if not self._holds and not self.lost:
            self.transport.pauseProducing()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds and not self.lost:
                self.transport.resumeProducing()

    @property
    def unsent(self) -> int:
        """Bytes that wait for it to take them, outside of the kernel."""
        transport = self.transport
        if transport is None:
            return 0
        # Under Twisted's own TLS, what counts is in the transport below.
        unsent = getattr(transport, "unsent", None)
        return int(getattr(transport.transport, "unsent", 0) if unsent is None else unsent)

    @property
    def undelivered(self) -> int:
        """The same with what the kernel has of it."""
        transport = self.transport
        if transport is None:
            return 0
        undelivered = getattr(transport, "undelivered", None)
        below = getattr(transport.transport, "undelivered", 0) if undelivered is None else 0
        return int(undelivered or below)

    # -- the end ------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether it has said Close and has been told so (RFC 6455, 7.1.4)."""
        return self.scanner.closed and self.said_close and not self.waiting

    def end(self) -> None:
        """Close its connection when it has taken what was sent."""
        if not self.ended and not self.lost:
            self.ended = True
            self._free_other()
            self.transport.loseConnection()

    def _free_other(self) -> None:
        """Nothing more is written here but what has been: nobody has to wait for that."""
        # A producer that stays registered would keep the transport open for what it may yet write.
        self.transport.unregisterProducer()
        self.blocked = False
        self.other._release(_OTHER_IS_FULL)

    def abort(self) -> None:
        """Close its connection at once."""
        if not self.lost:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True
        self._feed = _ignore
        other = self.other
        if not other.lost and not other.ended:
            # Else its transport would wait for this producer before it closes.
            other.transport.unregisterProducer()
        self.blocked = False
        other._release(_OTHER_IS_FULL)
        self.transport = None
        self.socket.lost(self)

    def let_go(self) -> None:
        """Both are gone: no cycle keeps this."""
        self._feed = self._write = _ignore
        del self.other, self.scanner, self.socket

    def __repr__(self) -> str:
        state = "lost" if self.lost else "blocked" if self.blocked else "open"
        return f"<Side {self.name} {state} {self.messages} messages {self.bytes} bytes>"


def _ignore(data: bytes) -> bytes:
    return b""
