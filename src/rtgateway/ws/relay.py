"""One end of a bridged WebSocket: frames in from its transport, out to the other end's.

`Side.dataReceived` is the hot path: a frame is scanned (`wire.websocket`) and written on as it
came. Whatever else may have to be done with it (a rate, a frame of our own to slip in, a Close) is
in ``_with_care``, where a side goes while it is not ``easy``. When something has to be done about
the socket as a whole, its `Socket` is told.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

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
from rtgateway.ws.end import End

if TYPE_CHECKING:
    from rtgateway.ws.rules import Meter
    from rtgateway.ws.socket import Socket

__all__ = ["Side"]

_OTHER_IS_FULL, _TOO_FAST = 1, 2
"""Why nothing is read from a side."""
_BUFFER = 65536
"""Bytes that a transport buffers before it pauses its producer (Twisted's own figure)."""


@implementer(interfaces.IPushProducer)
class Side(End):
    """See the module. It is the protocol of its transport, and the producer of the other's.

    :ivar name: ``client`` or ``upstream``.
    :ivar masks: frames sent to it are masked: the gateway is its client (RFC 6455, 5.3).
    :ivar easy: what comes from it is passed on without a second look.
    :ivar said_close: it has got a Close frame, or will at the next boundary.
    """

    __slots__ = (
        "_controls",
        "_feed",
        "_write",
        "easy",
        "ended",
        "masks",
        "meter",
        "other",
        "said_close",
        "scanner",
        "socket",
    )

    other: Side
    _write: Callable[[bytes], object]

    def __init__(
        self, socket: Socket, rules: FrameRules, *, masks: bool, meter: Meter | None = None
    ) -> None:
        super().__init__()
        self.socket = socket
        self.scanner = FrameScanner(rules, self._control)
        self._feed = self.scanner.feed
        self.masks = masks
        self.meter = meter
        self.easy = meter is None
        self.said_close = self.ended = False
        self._controls = 0

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

    @property
    def activity(self) -> tuple[int, int]:
        """Changes with every data frame, and with every byte of one."""
        scanner = self.scanner
        return scanner.frames - self._controls, 0 if scanner.between else self.bytes

    # -- bytes in -----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self.bytes += len(data)
        try:
            out = self._feed(data)
        except FrameError as error:
            self._feed = _ignore
            self._with_care(error.passed, len(data))
            self.socket.close(error.code, error.reason, f"{self.name}: {error.detail}")
            # What it says is not understood any more, its Close included.
            self.socket.be_quick()
            return
        if not self.easy:
            self._with_care(out, len(data))
        elif out:
            self._write(out)

    def _with_care(self, out: bytes, size: int) -> None:
        other, socket = self.other, self.socket
        if other.waiting:
            out = self._with_waiting(out)
        elif other.said_close:
            out = b""  # RFC 6455, 5.5.1: nothing follows a Close
        if out and not (other.lost or other.ended):
            self._write(out)
        if self.scanner.closed:
            other.said_close = True
            socket.advance()
        elif not socket.close_code:
            if self.meter is not None:
                # Whatever has been scanned is passed on, or a frame would lack a part of it.
                self._keep_to_rate(self.meter, size)
            else:
                self._relax()
            if other.blocked and other.unsent > socket.rules.max_buffered:
                socket.close(1013, "backpressure", f"{other.name} takes too little")

    def _with_waiting(self, out: bytes) -> bytes:
        """``out`` with what waits for the other end behind its last whole frame, if it has one."""
        other, at = self.other, self.scanner.boundary
        if at < 0:
            return out
        frames, other.waiting = other.waiting, b""
        if self.scanner.closed and not other.said_close:
            return out  # it ends with a Close, and what waits is only pings
        other.wait_anew()
        return out[:at] + frames + (b"" if other.said_close else out[at:])

    def _keep_to_rate(self, meter: Meter, size: int) -> None:
        debt = meter.take(self.scanner.messages, size, monotonic())
        if not debt:
            return
        if self.socket.rules.pauses:
            self._hold(_TOO_FAST)
            self.socket.resume_after(debt)
        else:
            self.socket.close(1008, "rate_limit")

    def _relax(self) -> None:
        other = self.other
        busy = self.meter is not None or other.waiting or other.blocked
        self.easy = not busy and self.socket.open

    # -- control frames -----------------------------------------------------------------------

    def _control(self, opcode: int, payload: bytes, frame: bytes) -> bytes:
        """What is passed on in place of a control frame (called by the scanner)."""
        self._controls += 1
        if opcode == CLOSE:
            return self._close_came(payload, frame)
        if opcode == PONG and self.knows(payload):
            seconds = self.answered(payload, monotonic())
            if seconds is not None:
                self.socket.ponged(self, seconds)
            # Not asked for by the other side, even if it comes too late.
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
        if not self.said_close and not self.lost:
            self._insert(ping_frame(self.asked(now), masked=self.masks))

    def say_close(self, code: int, reason: str) -> None:
        """Send a Close frame, at the next frame boundary; nothing happens if it has had one."""
        if self.said_close or self.lost or self.ended:
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
        if max_buffered < 2 * _BUFFER:
            # It has to be slowed down before it is closed for that.
            transport = other.transport
            getattr(transport, "transport", transport).bufferSize = max_buffered // 2
        if self.meter is not None:
            below = getattr(self.transport, "transport", self.transport)
            if hasattr(below, "read_at_most"):  # one of ours, and not a foreign reactor's
                below.read_at_most(self.socket.rules.metered_read)
        other.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        other = self.other
        again, other.blocked = other.blocked, True
        self.easy = False
        self._hold(_OTHER_IS_FULL)
        self.socket.blocked(other, again=again)

    def resumeProducing(self) -> None:
        self.other.blocked = False
        self.other.wait_anew()
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
                self.wait_anew()
                self.transport.resumeProducing()

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
            self.ended = True
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = True
        self._feed = _ignore
        other = self.other
        if not other.lost and not other.ended:
            # This one produces nothing more.
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
        return f"<Side {self.name} {state} {self.bytes} bytes>"


def _ignore(data: bytes) -> bytes:
    return b""
