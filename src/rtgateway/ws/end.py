"""One end of a bridged WebSocket as a connection: what waits for it, and whether it is alive.

`rtgateway.ws.relay.Side` adds the frames. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

import os
from struct import Struct
from time import monotonic
from typing import Any

__all__ = ["End"]

_NEVER = float("inf")
_OURS = b"rtgw"
_SECRET = os.urandom(8)
_PING = Struct(">4sqd")
"""Pings of the gateway are told from those that pass through by their payload: whose side it is
(another gateway may be next to this one), and when they were sent."""


class End:
    """See the module.

    :ivar bytes: that have come from it.
    :ivar blocked: it takes no more at present.
    :ivar lost: its connection is gone.
    :ivar waiting: frames of our own that it gets at the next frame boundary.
    :ivar ping_sent: when it got a ping that it has not answered; 0.0 if there is none.
    :ivar stall_at: while it is blocked: when it must have taken something.
    """

    __slots__ = (
        "_ahead",
        "_asked",
        "_holds",
        "_left",
        "_mark",
        "blocked",
        "bytes",
        "lost",
        "ping_sent",
        "stall_at",
        "transport",
        "waiting",
    )

    transport: Any  # several interfaces at once: TCP transport, consumer, producer

    def __init__(self) -> None:
        self.bytes = 0
        self.blocked = self.lost = False
        self.waiting = b""
        self.ping_sent = self._asked = self.stall_at = 0.0
        self._mark = self._ahead = self._left = self._holds = 0

    # -- pings --------------------------------------------------------------------------------

    def asked(self, now: float) -> bytes:
        """It gets a ping; the payload of that."""
        self.ping_sent = self._asked = now
        self._mark = self.bytes
        self._ahead = self.undelivered
        return _PING.pack(_OURS, self._number, now)

    def knows(self, payload: bytes) -> bool:
        """Whether a pong with this payload answers a ping that it got from here."""
        return (
            len(payload) == _PING.size
            and payload.startswith(_OURS)
            and _PING.unpack(payload)[1] == self._number
        )

    def answered(self, payload: bytes, now: float) -> float | None:
        """Such a pong has come: seconds that the answer took, None if it is not to the last one."""
        if not self.ping_sent or _PING.unpack(payload)[2] != self.ping_sent:
            return None
        self.ping_sent = 0.0
        return now - self._asked

    @property
    def _number(self) -> int:
        """Nobody else's, and no address for everybody to see."""
        return hash((_SECRET, id(self)))

    def wait_anew(self) -> None:
        """The last ping may only now be on its way to it, or its answer to us."""
        if self.ping_sent:
            self._asked = monotonic()
            self._ahead = self.undelivered

    def answer_due(self, now: float, timeout: float) -> float:
        """When it ought to have answered the last ping; ``inf`` if there is nothing to wait for.

        Anything that comes is a sign of life. So is that it takes what was sent before; whether it
        takes anything at all is watched elsewhere while it is blocked.
        """
        if self.bytes != self._mark:
            self.ping_sent = 0.0
        if not self.ping_sent:
            return _NEVER
        if self.waiting or self.blocked or self._holds:
            self._asked = now
        elif now >= self._asked + timeout:
            ahead, self._ahead = self._ahead, self.undelivered
            if self._ahead < ahead:
                self._asked = now
        return self._asked + timeout

    # -- what waits for it --------------------------------------------------------------------

    def blocked_until(self, at: float) -> None:
        """It has to take something of what waits for it before ``at``."""
        self.stall_at = at
        self._left = self.undelivered

    def takes(self) -> bool:
        """Whether it has taken something since the last time."""
        left, self._left = self._left, self.undelivered
        return self._left < left

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
