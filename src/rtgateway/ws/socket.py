"""A bridged WebSocket: its two sides, the rules it is under, and how it comes to its end.

What it does as time passes is in `rtgateway.ws.watched`. However it ends, both sides are told with
a Close frame if that can be done (RFC 6455, 7), and whoever is still there after ``close_timeout``
is disconnected.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rtgateway.ws.relay import Side
from rtgateway.ws.watched import Watched

if TYPE_CHECKING:
    from rtgateway.gateway.route import Route
    from rtgateway.upstream.attempt import Attempt
    from rtgateway.upstream.instance import Instance
    from rtgateway.ws.rules import Rules
    from rtgateway.ws.sockets import Place, Sockets

__all__ = ["Socket"]

_NEVER = float("inf")
_LAST_WORDS = 2.0
"""Seconds for a side to take what was sent, when nothing more is expected of it."""
_FOR_INSTANCES = {1012: 1001}
"""To a service its client is not restarting, but going away."""
_NO_STATUS = 1005
"""Stands for a Close without a code."""
_ABNORMAL = 1006
"""For logs and metrics only (RFC 6455, 7.4.1): a connection was lost without a Close."""


class Socket(Watched):
    """See the module. Created by `ws.bridge` when the instance has agreed; `start` begins it.

    :ivar id: unique in this process.
    :ivar identity: the subject of its token, empty if there is none.
    :ivar opened: monotonic seconds; ``closed`` likewise, 0.0 while it is not.
    :ivar rtt: seconds that the client took to answer the last ping; None before the first.
    :ivar close_code: how it ended; 1006 if a connection was lost; 0 while it is open.
    :ivar close_detail: whose fault it was, and what, where only the gateway knows; for the log.
    :ivar closed_by: ``client``, ``upstream``, ``gateway``, or empty.
    :ivar place: what it counts against (`ws.sockets`).
    """

    __slots__ = (
        "attempt",
        "client_ip",
        "close_detail",
        "close_reason",
        "closed",
        "closed_by",
        "compressed",
        "id",
        "identity",
        "opened",
        "path",
        "place",
        "request_id",
        "rtt",
        "subprotocol",
        "way",
    )

    attempt: Attempt
    path: bytes
    request_id: bytes
    client_ip: str

    def __init__(
        self, sockets: Sockets, rules: Rules, way: Route, *, compressed: bool, subprotocol: str
    ) -> None:
        super().__init__(sockets, rules)
        self.way = way
        self.id = sockets.next_id()
        self.identity = ""
        self.subprotocol = subprotocol
        self.compressed = compressed
        self.place: Place | None = None
        frames = rules.frames(from_client=True, compressed=compressed)
        client = self.client = Side(self, frames, masks=False, meter=rules.meter())
        frames = rules.frames(from_client=False, compressed=compressed)
        upstream = self.upstream = Side(self, frames, masks=True)
        client.other, upstream.other = upstream, client
        self.opened = self.closed = 0.0
        self.close_reason = self.close_detail = self.closed_by = ""
        self.rtt: float | None = None

    # -- what it looks like -------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``open``, or ``closing``."""
        return "closing" if self.close_code else "open"

    @property
    def route(self) -> str:
        """The label of its route."""
        return self.way.label

    @property
    def instance(self) -> Instance:
        return self.attempt.instance

    @property
    def received(self) -> Side:
        """What has come from the client."""
        return self.client

    @property
    def sent(self) -> Side:
        """What has come from the instance."""
        return self.upstream

    @property
    def buffered_in(self) -> int:
        """Bytes that wait for the instance to take them."""
        return self.upstream.unsent

    @property
    def buffered_out(self) -> int:
        """Bytes that wait for the client."""
        return self.client.unsent

    # -- its life -----------------------------------------------------------------------------

    def start(self, now: float, expires: float, from_client: bytes, from_instance: bytes) -> None:
        """Both transports are there: bridge them.

        :param expires: when the identity is not valid any more; monotonic seconds.
        :param from_client: what has come behind the handshake; ``from_instance`` likewise.
        """
        rules, sockets = self.rules, self._sockets
        self.opened = now
        self.begin(now, expires)
        sockets.add(self, now)
        self.client.connect(rules.max_buffered)
        self.upstream.connect(rules.max_buffered)
        if from_instance and not self.upstream.lost:
            self.upstream.dataReceived(from_instance)
        if from_client and not self.client.lost:
            self.client.dataReceived(from_client)

    def ponged(self, side: Side, seconds: float) -> None:
        """A side has answered a ping of ours."""
        if side is self.client:
            self.rtt = seconds
        self._sockets.ponged(self, side.name, seconds)

    # -- the end ------------------------------------------------------------------------------

    def close(self, code: int, reason: str, detail: str = "") -> None:
        """End it: a Close frame to both sides. Nothing happens if it is ending already."""
        if not self.open:
            return
        self.close_detail = detail
        self._begin_to_close(code, reason, "gateway")
        self.client.say_close(code, reason)
        self.upstream.say_close(_FOR_INSTANCES.get(code, code), reason)
        self.advance()

    def close_came(self, side: Side, code: int, reason: str) -> None:
        """A Close frame has come from ``side``; it is passed on with what came before it."""
        side.easy = False
        if self.open:
            self._begin_to_close(code, reason, side.name)

    def lost(self, side: Side) -> None:
        """The connection of ``side`` is gone."""
        other = side.other
        if self.open:
            self._begin_to_close(_ABNORMAL, "", side.name)
        if other.lost:
            self._over()
            return
        if other.waiting:
            # For the end of a frame that will never come.
            other.end()
        elif self.closed_by == other.name:
            # It began, and nobody is left to answer.
            other.say_close(*self._answer())
        elif side is self.upstream:
            other.say_close(1011, "upstream_error")
        else:
            other.say_close(1001, "client_gone")
        self.advance()

    def _answer(self) -> tuple[int, str]:
        """The same code as in the Close that came (RFC 6455, 5.5.1)."""
        if self.close_code == _NO_STATUS:
            return 1000, ""
        return self.close_code, self.close_reason

    def _begin_to_close(self, code: int, reason: str, by: str) -> None:
        self.close_code, self.close_reason, self.closed_by = code, reason, by
        self.client.easy = self.upstream.easy = False
        self.client.slow_enough()
        now = monotonic()
        self.deadline = now + self.rules.close_timeout
        self._sockets.wheel.touch(self, now)

    def be_quick(self) -> None:
        """Whatever is still expected of a side, it can't be waited for as long as usual."""
        now = monotonic()
        self.deadline = min(self.deadline, now + _LAST_WORDS)
        self._sockets.wheel.touch(self, now)

    def advance(self) -> None:
        """Go on to the end, as far as both sides are with it."""
        if self.client.finished:
            # RFC 6455, 7.1.1: the server closes first. So does the instance on its side, which
            # leaves the ports that are used towards it free at once (TIME_WAIT is with who closes).
            self.client.end()

    def cut_short(self, now: float) -> None:
        """Nobody is waited for any longer."""
        sides = [side for side in (self.client, self.upstream) if not side.lost]
        if all(side.ended for side in sides):
            self.deadline = _NEVER
            for side in sides:
                side.abort()
            return
        self.deadline = now + _LAST_WORDS
        for side in sides:
            # If this one's own Close was never answered, it is by us.
            side.say_close(*self._answer())
            side.end()

    def abort(self) -> None:
        """End it without a word."""
        if self.open:
            self._begin_to_close(_ABNORMAL, "cut_off", "gateway")
        self.client.abort()
        self.upstream.abort()

    def _over(self) -> None:
        now = self.closed = monotonic()
        self.attempt.over(now)
        self._sockets.gone(self)
        self.client.let_go()
        self.upstream.let_go()

    def __repr__(self) -> str:
        return f"<Socket {self.id} {self.state} {self.client!r} {self.upstream!r}>"
